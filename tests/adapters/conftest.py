"""Links to the real Redis and the stores over them; tests of the link itself run on both event loops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from signal import SIGCONT

import pytest
import uvloop
from support.contracts.key_projections import connected_store
from support.contracts.redis_commands import started_link
from support.servers.redis_cluster import Cluster
from support.servers.redis_sentinel import Sentinels

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.store import RedisStore
from authz.demo.servers import RedisServer


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on uvloop too what depends on how a loop treats its transports."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name.startswith("test_redis_link"):
        loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    link = RedisLink(redis_url, deadline_s=1, in_flight_max=20_000)
    link.start()
    await link.reached.wait()
    yield link
    await link.close()


@pytest.fixture(params=["server", "sentinel", "cluster"])
async def store(
    request: pytest.FixtureRequest, redis_url: str, redis_sentinels: Sentinels, redis_cluster: Cluster
) -> AsyncIterator[RedisStore]:
    """The Redis store, for each form of URL."""
    urls = {"server": redis_url, "sentinel": redis_sentinels.url, "cluster": redis_cluster.url}
    async with connected_store(urls[request.param]) as store:
        yield store


@pytest.fixture
def server(folder: Path) -> Iterator[RedisServer]:
    """A Redis that only this test uses and may stop."""
    server = RedisServer(folder)
    server.start()
    yield server
    server.signal(SIGCONT)
    server.stop()


@pytest.fixture
async def own_link(server: RedisServer) -> AsyncIterator[RedisLink]:
    """A link to that Redis, with the deadline of a check."""
    async with started_link(server.url) as link:
        await link.reached.wait()
        yield link
