"""A PostgreSQL on TCP that tests of this folder share, a database of its own for each test, and a pool on it."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from support.servers.postgres import Opened, database
from support.servers.postgres_variants import TcpPostgres

from authz.adapters.postgres.migrations import migrate
from authz.adapters.postgres.pool import Postgres


@pytest.fixture(scope="session")
def tcp_server(scratch: Path) -> Iterator[TcpPostgres]:
    (scratch / "tcp").mkdir()
    server = TcpPostgres(scratch / "tcp")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def empty_url(tcp_server: TcpPostgres) -> AsyncIterator[str]:
    async with database(tcp_server.url) as url:
        yield url


@pytest.fixture
async def database_url(empty_url: str) -> str:
    await migrate(empty_url)
    return empty_url


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Open pools that are closed after the test."""
    pools: list[Postgres] = []

    async def open_pool(url: str | Callable[[], str], **settings: float) -> Postgres:
        given: dict[str, float] = {"deadline_s": 5, "pool_max": 4, **settings}
        pools.append(Postgres(url, **given))  # type: ignore[arg-type]
        await pools[-1].start()
        return pools[-1]

    yield open_pool
    for pool in pools:
        await pool.close()
