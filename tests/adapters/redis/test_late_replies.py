"""A reply that comes after the deadline decides no check, but `degrade` learns from it what became of the key."""

import asyncio
import os
import time

import pytest
from support.contracts.key_lookups import DEFAULT, put, record
from support.contracts.key_projections import connected_store
from support.servers.delay_proxy import delayed

from authz.adapters.redis.store import redis_store
from authz.core.check import KeyState, Lookup, Take
from authz.core.errors import StoreUnavailable
from authz.core.limits import KeyLimits, Limit, NamedLimit
from authz.demo.servers import RedisServer
from authz.service.check.failure_modes import RecentKeys
from authz.service.ports import KeyProjection, TakeReply

DEADLINE_S = 0.05
TWO_WINDOWS = KeyLimits((NamedLimit("default", DEFAULT), NamedLimit("day", Limit(1000, 0.1))), {}, 1e6)


async def taken(keys: KeyProjection, lookups: list[Lookup], limits: KeyLimits | None) -> list[TakeReply]:
    answered: asyncio.Future[list[TakeReply]] = asyncio.get_running_loop().create_future()
    replies: dict[int, TakeReply] = {}

    def receive(places: object, found: object) -> None:
        replies.update(zip(places, found, strict=True))  # type: ignore[call-overload]
        if len(replies) == len(lookups):
            answered.set_result([replies[place] for place in range(len(lookups))])

    keys.take(lookups, DEFAULT, receive, limits=limits)
    return await answered


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("limits", [None, TWO_WINDOWS], ids=["usual", "several limits"])
async def test_a_slow_redis_still_tells_of_a_revocation(
    server: RedisServer, count: int, limits: KeyLimits | None
) -> None:
    recent = RecentKeys(size=100, window_s=300, now_s=time.time)
    lookups = [Lookup(os.urandom(32), 1, None) for _ in range(count + 1)]
    *revoked, other = lookups
    async with delayed(("127.0.0.1", server.port)) as proxy, connected_store(server.url) as operator:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        store = redis_store(url, deadline_s=DEADLINE_S, in_flight_max=100, negative_ttl_s=5, on_late=recent.learn)
        store.link.start()
        await store.link.reached.wait()
        for lookup in lookups:
            await put(operator.keys, lookup.digest, record())
        for _ in range(2):  # the second time the records are in the cache
            for lookup, reply in zip(lookups, await taken(store.keys, lookups, limits), strict=True):
                assert isinstance(reply, Take)
                recent.remember(lookup.digest, reply)
        proxy.delay_s = 2.5 * DEADLINE_S
        for lookup in revoked:
            await put(operator.keys, lookup.digest, record(state=KeyState.REVOKED, revision=2))
        assert all(recent.take(lookup, DEFAULT) is not None for lookup in lookups)
        assert all(isinstance(reply, StoreUnavailable) for reply in await taken(store.keys, lookups, limits))
        async with asyncio.timeout(1):
            while any(recent.take(lookup, DEFAULT) is not None for lookup in revoked):
                await asyncio.sleep(0.01)
        assert recent.take(other, DEFAULT) is not None
        await store.link.close()
