"""Opens what the operator's commands work with: the policy, Postgres and Redis, for as long as one command runs.

The sidecar has its own composition in `app.py`: it must start without its stores, a command must not.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from authz.adapters.policy_file import load_policy
from authz.adapters.postgres import Postgres
from authz.adapters.postgres_keys import PostgresKeys
from authz.adapters.redis_store import redis_store
from authz.service.key_admin import KeyAdmin
from authz.settings import Settings, load

_PATIENCE_S = 5.0


@asynccontextmanager
async def open_admin(settings: Settings | None = None) -> AsyncIterator[KeyAdmin]:
    """Yield the use cases around keys; an operator can wait longer for a store than a check can.

    A Redis out of reach shows only when a change has to become effective in it.
    """
    settings = settings or load()
    policy = load_policy(settings.policy_file)
    postgres = Postgres(settings.postgres_url.get_secret_value(), deadline_s=_PATIENCE_S, pool_max=2)
    redis = redis_store(
        settings.redis_url.get_secret_value(),
        deadline_s=_PATIENCE_S,
        in_flight_max=settings.redis_in_flight_max,
        negative_ttl_s=settings.negative_ttl_s,
    )
    await postgres.start()
    redis.link.start()
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S / 5):
            await redis.link.reached.wait()
    try:
        yield KeyAdmin(PostgresKeys(postgres), redis.keys, policy, entropy=os.urandom, now=lambda: datetime.now(UTC))
    finally:
        await redis.link.close()
        await postgres.close()
