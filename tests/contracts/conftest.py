"""The projections under contract: in memory, and on real servers in every form that a URL can name."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.contracts.key_projections import Subject, behind_sentinels, in_cluster, in_memory, on_server
from support.servers.redis_cluster import Cluster
from support.servers.redis_sentinel import Sentinels

from authz.demo.servers import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis that only this suite uses, because its tests start new epochs."""
    folder = Path(tempfile.mkdtemp(prefix="authz-test-"))
    server = RedisServer(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(params=["memory", "server", "sentinel", "cluster"])
async def keys(
    request: pytest.FixtureRequest, server: RedisServer, redis_sentinels: Sentinels, redis_cluster: Cluster
) -> AsyncIterator[Subject]:
    match request.param:
        case "memory":
            yield in_memory()
        case "server":
            async with on_server(server.url) as subject:
                yield subject
        case "sentinel":
            async with behind_sentinels(redis_sentinels) as subject:
                yield subject
        case _:
            async with in_cluster(redis_cluster) as subject:
                yield subject
