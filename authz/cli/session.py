"""Opens the policy, Postgres and Redis for the time of one operator's command.

The composition root of the sidecar is `sidecar.py`: it must start without its stores, a command must not.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from authz.adapters.policy_file.loader import load_policy
from authz.adapters.postgres.failures import is_from_server
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.migrations import refuse_newer
from authz.adapters.postgres.pool import Postgres
from authz.adapters.redis.leases import RedisLeases
from authz.adapters.redis.store import RedisStore, redis_store
from authz.core.errors import StoreUnavailable
from authz.core.policy.policy import Policy
from authz.service.keys.admin import KeyAdmin
from authz.service.keys.importing import KeyImporter
from authz.service.keys.stream_admin import StreamAdmin
from authz.settings import Settings, load

_DEADLINE_S = 5.0


@asynccontextmanager
async def open_admin(settings: Settings | None = None) -> AsyncIterator[KeyAdmin]:
    """Yield the use cases of keys; an operator can wait longer for a store than a check.

    An unavailable Redis is an error only when a change has to become effective in it.
    """
    async with _stores(settings or load()) as (ledger, redis, policy):
        yield KeyAdmin(ledger, redis.keys, policy, entropy=os.urandom, now=partial(datetime.now, UTC))


@asynccontextmanager
async def open_importer(settings: Settings | None = None) -> AsyncIterator[KeyImporter]:
    """Yield the import of keys, with the stores as `open_admin` has them."""
    async with _stores(settings or load()) as (ledger, redis, policy):
        yield KeyImporter(ledger, redis.keys, policy, entropy=os.urandom, now=partial(datetime.now, UTC))


@asynccontextmanager
async def _stores(settings: Settings) -> AsyncIterator[tuple[PostgresKeys, RedisStore, Policy]]:
    policy = load_policy(settings.policy_file)
    postgres = Postgres(
        settings.reader("postgres_url"), deadline_s=_DEADLINE_S, pool_max=2, connect_s=settings.postgres_connect_s
    )
    await postgres.start()
    try:
        async with _connected(settings) as redis:
            try:
                yield PostgresKeys(postgres), redis, policy
            except StoreUnavailable as error:
                if is_from_server(error.__cause__):
                    await _blame_newer_schema(postgres)
                raise
    finally:
        await postgres.close()


async def _blame_newer_schema(postgres: Postgres) -> None:
    """After a refused statement, raise what explains it: a command works with a newer schema as long as it can."""
    async with postgres.transaction() as session:
        await refuse_newer(session)


@asynccontextmanager
async def open_streams(settings: Settings | None = None) -> AsyncIterator[StreamAdmin]:
    """Yield the use cases of open streams, which need Redis only."""
    settings = settings or load()
    policy = load_policy(settings.policy_file)
    async with _connected(settings) as redis:
        yield StreamAdmin(RedisLeases(redis.link), policy)


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[RedisStore]:
    """Yield Redis after it has connected, or after one second."""
    redis = redis_store(
        settings.reader("redis_url"),
        deadline_s=_DEADLINE_S,
        in_flight_max=settings.redis_in_flight_max,
        negative_ttl_s=settings.negative_ttl_s,
        lost_buckets=settings.lost_buckets,
    )
    redis.link.start()
    with suppress(TimeoutError):
        async with asyncio.timeout(_DEADLINE_S / 5):
            await redis.link.reached.wait()
    try:
        yield redis
    finally:
        await redis.link.close()
