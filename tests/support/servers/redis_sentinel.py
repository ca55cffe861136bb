"""A primary, its replica and three sentinels, all real, for tests of failovers."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from authz.demo.servers import RedisServer, Server, accepts, free_port, redis_binary

NAME = "authz-primary"
_SENTINELS = 3
_DOWN_AFTER_MS = 500


class SentinelServer(Server):
    """One sentinel; it notices within half a second that its primary is down."""

    def __init__(self, folder: Path, number: int, primary_port: int, *lines: str) -> None:
        self.port = free_port()
        config = folder / f"sentinel-{number}.conf"
        settings = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"sentinel monitor {NAME} 127.0.0.1 {primary_port} 2",
            f"sentinel down-after-milliseconds {NAME} {_DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} 5000",
            *lines,
        )
        config.write_text("\n".join(settings))
        super().__init__("sentinel", [redis_binary(), config, "--sentinel"], folder / f"sentinel-{number}.log")

    def start_up(self) -> None:
        self.start(lambda: accepts(self.port))


class Sentinels:
    """What the sentinels watch, two servers, and the URL by which a link finds the primary among them.

    With a `password` it is the one of every server, and `sentinel_password` that of the sentinels.
    """

    def __init__(self, folder: Path, *, password: str = "", sentinel_password: str = "") -> None:
        self._password = password
        self._sentinel_password = sentinel_password
        auth = ("--requirepass", password, "--masterauth", password) if password else ()
        for name in ("a", "b"):
            (folder / name).mkdir()
        self.first = RedisServer(folder / "a", 0, *auth)
        replica_of = ("--replicaof", "127.0.0.1", str(self.first.port))
        self.second = RedisServer(folder / "b", 0, *auth, *replica_of)
        lines = [f"sentinel auth-pass {NAME} {password}"] if password else []
        lines += [f"requirepass {sentinel_password}"] if sentinel_password else []
        self.sentinels = [SentinelServer(folder, number, self.first.port, *lines) for number in range(_SENTINELS)]

    @property
    def url(self) -> str:
        nodes = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        user = f":{self._password}@" if self._password else ""
        query = f"?sentinel_password={self._sentinel_password}" if self._sentinel_password else ""
        return f"redis+sentinel://{user}{nodes}/{NAME}{query}"

    def server(self, port: int) -> RedisServer:
        return self.first if port == self.first.port else self.second

    def client(self, server: RedisServer) -> redis.Redis:
        return redis.Redis("127.0.0.1", server.port, password=self._password or None, decode_responses=True)

    def until_watched(self) -> None:
        """Wait until the sentinels know the replica and each other, without which they make no failover."""
        deadline_s = time.monotonic() + 15
        for sentinel in self.sentinels:
            with redis.Redis("127.0.0.1", sentinel.port, password=self._sentinel_password or None) as client:
                while True:
                    state = client.sentinel_master(NAME)
                    if (state["num-slaves"], state["num-other-sentinels"]) == (1, _SENTINELS - 1):
                        break
                    assert time.monotonic() < deadline_s, "the sentinels do not find each other"
                    time.sleep(0.02)

    def until_replicated(self) -> None:
        """Wait until the current replica has caught up with the primary."""
        with self.client(self.first) as one, self.client(self.second) as other:
            while True:
                replications = {client: client.info("replication") for client in (one, other)}
                if any(seen.get("master_link_status") == "up" for seen in replications.values()):
                    break
                time.sleep(0.01)
            next(client for client, seen in replications.items() if seen["role"] == "master").wait(1, 1000)

    def fail_over(self) -> None:
        """Order a failover as an operator does; returns once it is under way."""
        with redis.Redis("127.0.0.1", self.sentinels[0].port, password=self._sentinel_password or None) as client:
            client.execute_command("SENTINEL", "FAILOVER", NAME)

    def fail_over_when_possible(self) -> None:
        """Order a failover, again and again while the sentinels refuse because of the one before."""
        deadline_s = time.monotonic() + 30
        while True:
            try:
                return self.fail_over()
            except redis.ResponseError:
                assert time.monotonic() < deadline_s, "the sentinels refuse every failover"
                time.sleep(0.1)


@contextmanager
def sentinels(folder: Path, *, password: str = "", sentinel_password: str = "") -> Iterator[Sentinels]:
    watched = Sentinels(folder, password=password, sentinel_password=sentinel_password)
    with ExitStack() as down:
        for server in (watched.first, watched.second):
            down.callback(server.stop)
            server.start()
        watched.until_replicated()
        for sentinel in watched.sentinels:
            down.callback(sentinel.kill)
            sentinel.start_up()
        watched.until_watched()
        yield watched
