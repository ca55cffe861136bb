"""Key administration over the real Postgres, with a projection in memory."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from support.builders import policy
from support.fakes.projection import MemoryProjection
from support.portal_use_cases import PortalUseCases
from support.servers.postgres import database

from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.migrations import migrate
from authz.adapters.postgres.pool import Postgres
from authz.adapters.redis.connection.link import RedisLink
from authz.service.keys.admin import KeyAdmin


@pytest.fixture
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    async with database(postgres_url) as url:
        await migrate(url)
        yield url


@pytest.fixture
async def postgres(database_url: str) -> AsyncIterator[Postgres]:
    postgres = Postgres(database_url, deadline_s=30, connect_s=30, pool_max=20)
    await postgres.start()
    yield postgres
    await postgres.close()


@pytest.fixture
def ledger(postgres: Postgres) -> PostgresKeys:
    return PostgresKeys(postgres)


@pytest.fixture
def directory(postgres: Postgres) -> PostgresDirectory:
    return PostgresDirectory(postgres)


@pytest.fixture
def projection() -> MemoryProjection:
    return MemoryProjection()


@pytest.fixture
def admin(ledger: PostgresKeys, projection: MemoryProjection) -> KeyAdmin:
    return KeyAdmin(ledger, projection, policy(), entropy=os.urandom, now=lambda: datetime.now(UTC))


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    link = RedisLink(redis_url, deadline_s=30, in_flight_max=20_000)
    link.start()
    await link.reached.wait()
    yield link
    await link.close()


@pytest.fixture
def use_cases(postgres: Postgres, link: RedisLink, admin: KeyAdmin) -> PortalUseCases:
    return PortalUseCases(postgres, link, admin)
