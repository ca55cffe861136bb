"""Every projection that must satisfy the contract, each with a way to start a new epoch of its data."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from support.contracts.key_lookups import account
from support.contracts.redis_commands import encode_command
from support.fakes.projection import MemoryProjection
from support.servers.redis_cluster import Cluster, Node
from support.servers.redis_sentinel import Sentinels

from authz.adapters.redis.connection.cluster import RedisCluster
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.store import RedisStore, redis_store
from authz.core.check import KeyRecord
from authz.service.ports import KeyProjection

_BUMP_S_MAX = 15


class Subject:
    """A projection; `start_new_epoch` voids its records and returns once the projection has noticed."""

    def __init__(self, keys: KeyProjection, start_new_epoch: Callable[[], Awaitable[None]]) -> None:
        self.epoch_of = keys.epoch_of
        self.take = keys.take
        self.put_key = keys.put
        self.put_account = keys.put_account
        self.settled = keys.settled
        self.start_new_epoch = start_new_epoch

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        """Write a key's record, with that of its account before."""
        await self.put_account(account(record.account_id), epoch=epoch)
        return await self.put_key(digest, record, epoch=epoch)


@asynccontextmanager
async def connected_store(url: str, deadline_s: float = 1) -> AsyncIterator[RedisStore]:
    """Yield the store of a URL, once it is connected to every node."""
    store = redis_store(url, deadline_s=deadline_s, in_flight_max=20_000, negative_ttl_s=5)
    store.link.start()
    try:
        while not store.link.is_up:
            await asyncio.sleep(0.005)
        yield store
    finally:
        await store.link.close()


def in_memory() -> Subject:
    keys = MemoryProjection()
    return Subject(keys, keys.start_new_epoch)


@asynccontextmanager
async def on_server(url: str) -> AsyncIterator[Subject]:
    async def demote_and_promote() -> None:
        """Demote the server and promote it again: it keeps its process, its data and its connections."""
        assert isinstance(store.link, RedisLink)
        for order in (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")):
            store.link.submit(encode_command(*order), lambda _reply: None)
        await _wait_for_new_epochs([store.link], [store.link.epoch])

    async with connected_store(url) as store:
        yield Subject(store.keys, demote_and_promote)


@asynccontextmanager
async def behind_sentinels(watched: Sentinels) -> AsyncIterator[Subject]:
    async def fail_over() -> None:
        assert isinstance(store.link, RedisLink)
        before = store.link.epoch
        await asyncio.to_thread(watched.until_replicated)
        await asyncio.to_thread(watched.fail_over)
        await _wait_for_new_epochs([store.link], [before])

    async with connected_store(watched.url) as store:
        yield Subject(store.keys, fail_over)


@asynccontextmanager
async def in_cluster(made: Cluster) -> AsyncIterator[Subject]:
    async def bump() -> None:
        assert isinstance(store.link, RedisCluster)
        before = [link.epoch for link in store.link.links]
        for node in made.primaries:
            await asyncio.to_thread(bump_epoch, node, made.primaries)
        await _wait_for_new_epochs(store.link.links, before)

    async with connected_store(made.url) as store:
        yield Subject(store.keys, bump)


def bump_epoch(node: Node, primaries: Sequence[Node]) -> None:
    """Start a new epoch of one node's data without a failover; raises `TimeoutError`.

    The node with the highest epoch keeps it until it knows of a higher one, so another one may have to have that first.
    """
    end_s = time.monotonic() + _BUMP_S_MAX
    while not node.execute("CLUSTER", "BUMPEPOCH").startswith("BUMPED"):
        if time.monotonic() > end_s:
            raise TimeoutError("a node keeps its epoch")
        next(other for other in primaries if other is not node).execute("CLUSTER", "BUMPEPOCH")
        time.sleep(0.05)


async def _wait_for_new_epochs(links: list[RedisLink], before: list[str]) -> None:
    while any(link.epoch in {"", epoch} for link, epoch in zip(links, before, strict=True)):
        await asyncio.sleep(0.005)
