"""In `degrade` with a slow Redis: who is revoked or suspended is refused within a second, and nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from support.servers.delay_proxy import DelayProxy, delayed
from support.servers.stack import ROOMY

from authz.cli.session import open_admin
from authz.core.accounts import AuditEvent, NewApiKey
from authz.demo.servers import RedisServer
from authz.demo.stack import ACTOR, Stack
from authz.service.keys.admin import KeyAdmin, KeyRequest

BOUND_S, WATCHED_S = 1.0, 1.0
SLOW_S = 0.15  # three times AUTHZ_REDIS_DEADLINE_S


@asynccontextmanager
async def slow_redis(folder: Path) -> AsyncIterator[tuple[Stack, DelayProxy, KeyAdmin]]:
    """Run a stack whose sidecar reaches Redis through a proxy; operators reach it directly."""
    redis = RedisServer(folder)
    redis.start()
    try:
        async with delayed(("127.0.0.1", urlsplit(redis.url).port or 0)) as proxy:
            stack = Stack(redis_url=f"redis://127.0.0.1:{proxy.port}/0", env={"AUTHZ_REDIS_FAILURE": "degrade"})
            await asyncio.to_thread(stack.start)
            try:
                direct = stack.settings.model_copy(update={"redis_url": SecretStr(redis.url)})
                async with open_admin(direct) as admin:
                    yield stack, proxy, admin
            finally:
                await asyncio.to_thread(stack.stop)
    finally:
        redis.stop()


async def created(admin: KeyAdmin) -> NewApiKey:
    account = await admin.create_account("degrade", None, ACTOR)
    return await admin.create_key(KeyRequest(account.id, "k", frozenset({"servers:read"}), ROOMY), ACTOR)


@pytest.mark.timed
async def test_what_is_stopped_during_an_outage_is_refused_within_a_second(folder: Path) -> None:
    async with (
        slow_redis(folder) as (stack, proxy, admin),
        httpx.AsyncClient(base_url=stack.url, trust_env=False, timeout=5) as client,
    ):

        async def status(key: NewApiKey) -> int:
            return (await client.get("/v1/servers", headers={"x-api-key": key.secret})).status_code

        revoked, suspended, limited, kept = keys = [await created(admin) for _ in range(4)]
        assert [await status(key) for key in keys] == [200] * 4
        proxy.delay_s = SLOW_S
        assert [await status(key) for key in keys] == [200] * 4
        changes = {
            revoked.key.id: admin.change_key(revoked.key.id, AuditEvent.KEY_REVOKED, ACTOR),
            suspended.key.id: admin.change_account(suspended.key.account_id, AuditEvent.ACCOUNT_SUSPENDED, ACTOR),
            limited.key.id: admin.change_key(limited.key.id, AuditEvent.KEY_DISABLED, ACTOR),
        }
        done_s: dict[str, float] = {}
        for key_id, change in changes.items():
            await change
            done_s[key_id] = monotonic()
        late: list[str] = []
        while monotonic() < max(done_s.values()) + BOUND_S + WATCHED_S:
            for key in (revoked, suspended, limited):
                asked_s = monotonic()
                if await status(key) == 200 and asked_s > done_s[key.key.id] + BOUND_S:
                    late.append(key.key.id)
            assert await status(kept) == 200
        assert late == []
        proxy.delay_s = 0.0
