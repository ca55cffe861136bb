"""A Redis cluster of real nodes, and what operators do to one: move slots, order a failover, restore a node."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from authz.adapters.redis.records import BUCKET_BYTES, account_key, redis_key
from authz.demo.servers import RedisServer, free_port, hold_port

_PRIMARIES = 3
_BUS_OFFSET = 10_000  # until version 7, nodes talk to each other on a port at this distance
_OUTGOING_FROM = 32_768


def port_with_bus() -> int:
    """Return a free port whose bus port is free too, and below those that the system gives to outgoing connections."""
    while True:
        port = free_port()
        if port + _BUS_OFFSET < _OUTGOING_FROM and hold_port(port + _BUS_OFFSET):
            return port


class Node(RedisServer):
    """One node. It saves nothing on disk except on SAVE, and its cluster configuration."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        folder.mkdir()
        self.folder = folder
        cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500", "--dbfilename", "dump.rdb")
        super().__init__(folder, port or port_with_bus(), *cluster, *options)

    @property
    def client(self) -> redis.Redis:
        return redis.Redis("127.0.0.1", self.port, decode_responses=True)

    @property
    def is_ok(self) -> bool:
        """Return whether the node serves and every other node is healthy in its view."""
        with self.client as client:
            views = client.cluster("nodes").values()
            ok = client.cluster("info")["cluster_state"] == "ok"
        return ok and not any("fail" in view["flags"] or "handshake" in view["flags"] for view in views)

    def execute(self, *words: Any) -> Any:  # noqa: ANN401 -- any reply
        with self.client as client:
            return client.execute_command(*words)

    @property
    def id(self) -> str:
        return str(self.execute("CLUSTER", "MYID"))


class Cluster:
    """Three primaries with a third of the slots each; with `replicated`, a fourth node is the first one's replica.

    With `announced`, each primary listens on the first port of a pair and announces the second.
    """

    def __init__(self, folder: Path, *, replicated: bool = False, announced: Sequence[tuple[int, int]] = ()) -> None:
        ports = announced or [(port, port) for port in (port_with_bus() for _ in range(_PRIMARIES))]
        self.primaries = [
            Node(
                folder / f"node-{number}",
                "--cluster-announce-port",
                str(announced_port),
                "--cluster-announce-bus-port",
                str(port + _BUS_OFFSET),
                port=port,
            )
            for number, (port, announced_port) in enumerate(ports)
        ]
        self.replica = Node(folder / "replica", "--cluster-replica-validity-factor", "0") if replicated else None
        self.nodes = [*self.primaries, *([self.replica] if self.replica else [])]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def primary_of(self, slot: int) -> Node:
        return self.primaries[slot * _PRIMARIES // REDIS_CLUSTER_HASH_SLOTS]

    def form(self) -> None:
        """Make a cluster of nodes that have just been started."""
        first = self.primaries[0]
        for number, node in enumerate(self.primaries):
            slots = [slot for slot in range(REDIS_CLUSTER_HASH_SLOTS) if self.primary_of(slot) is node]
            node.execute("CLUSTER", "ADDSLOTS", *slots)
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.execute("CLUSTER", "MEET", "127.0.0.1", first.port)
        self.until_ok()
        if self.replica:
            self.replica.execute("CLUSTER", "REPLICATE", first.id)
            self.until_replicated()

    def until_ok(self) -> None:
        for node in self.nodes:
            while not node.pid or len(node.execute("CLUSTER", "NODES")) < len(self.nodes) or not node.is_ok:
                time.sleep(0.02)

    def until_replicated(self) -> None:
        """Wait until the replica has caught up with its primary."""
        assert self.replica is not None
        with self.replica.client as replica, self.primaries[0].client as primary:
            while replica.info("replication").get("master_link_status") != "up":
                time.sleep(0.01)
            primary.wait(1, 1000)

    def fail_over(self) -> None:
        """Order a failover to the replica, as an operator does; returns once it is the primary."""
        assert self.replica is not None
        while self.replica.execute("ROLE")[0] != "master":
            self.replica.execute("CLUSTER", "FAILOVER")  # forgotten where the two do not know each other yet
            deadline_s = time.monotonic() + 1
            while self.replica.execute("ROLE")[0] != "master" and time.monotonic() < deadline_s:
                time.sleep(0.01)

    def begin_move(self, slot: int, source: Node, target: Node) -> None:
        target.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def end_move(self, slot: int, source: Node, target: Node) -> None:
        while names := source.execute("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.execute("MIGRATE", "127.0.0.1", target.port, "", 0, 1000, "KEYS", *names)
        for node in (target, source, *self.primaries):
            node.execute("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def move(self, slot: int, source: Node, target: Node) -> None:
        """Move a slot with its keys, as redis-cli does."""
        self.begin_move(slot, source, target)
        self.end_move(slot, source, target)


def slot_of(digest: bytes) -> int:
    return key_slot(redis_key(digest))


def digest_at(made: Cluster, node: Node) -> bytes:
    """Return a digest whose slot a node owns."""
    while made.primary_of(slot_of(digest := os.urandom(32))) is not node:
        pass
    return digest


def account_at(made: Cluster, node: Node) -> str:
    """Make up the id of an account that a node has the slot of."""
    while made.primary_of(key_slot(account_key(account_id := f"acct_{os.urandom(8).hex()}"))) is not node:
        pass
    return account_id


def header(node: Node, digest: bytes) -> str:
    """Return the header of a record on a node, trusted or not."""
    return str(node.execute("GETRANGE", redis_key(digest), BUCKET_BYTES, -1)).partition("\n")[0]


@contextmanager
def cluster(folder: Path, *, replicated: bool = False, announced: Sequence[tuple[int, int]] = ()) -> Iterator[Cluster]:
    made = Cluster(folder, replicated=replicated, announced=announced)
    with ExitStack() as down:
        for node in made.nodes:
            down.callback(node.kill)
            node.start()
        made.form()
        yield made
