"""A stream's check with several buckets in the real Redis: all buckets and the lease in one call, or none of them."""

import asyncio
import os
from collections.abc import Sequence

from msgspec.structs import replace
from support.builders import LOGS
from support.contracts.key_lookups import DEFAULT, put, record
from support.contracts.redis_commands import send as command

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.leases import RedisLeases
from authz.adapters.redis.records import OPENING_LIMITS
from authz.core.check import KeyState, Lookup, Take, TakeOutcome
from authz.core.limits import KeyLimits, Limit, NamedLimit
from authz.core.policy.route import Access, Route
from authz.core.streams import AcquireOutcome, Opening

SLOW = 0.001
OPENED = NamedLimit("opened", Limit(2, SLOW))
ROUTE = Route("GET", "/v1/logs", Access.SCOPE, "servers:read", stream=LOGS.name, limits=(OPENED,))
ELSEWHERE = Route("GET", "/v1/other", Access.SCOPE, "nodes:read", stream=LOGS.name, limits=(OPENED,))
LIMITS = KeyLimits((NamedLimit("default", DEFAULT), NamedLimit("daily", Limit(50, SLOW))), {}, 1e6)


async def taken(keys: RedisKeys, *lookups: Lookup) -> list[Take]:
    complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    found: dict[int, Take] = {}

    def receive(places: Sequence[int], replies: Sequence[object]) -> None:
        for place, reply in zip(places, replies, strict=True):
            assert isinstance(reply, Take)
            found[place] = reply
        if len(found) == len(lookups):
            complete.set_result(None)

    keys.take(lookups, DEFAULT, receive, limits=LIMITS)
    await complete
    return [found[place] for place in range(len(lookups))]


def opening(digest: bytes, request_id: str, route: Route = ROUTE) -> Lookup:
    return Lookup(digest, 1, route, opening=Opening(request_id, LOGS, 15))


async def test_buckets_and_lease_are_taken_together_or_not_at_all(own_link: RedisLink) -> None:
    keys, digest = RedisKeys(own_link, negative_ttl_s=5), os.urandom(32)
    key = replace(record(), account_id=f"acct_{os.urandom(6).hex()}")
    await put(keys, digest, key)
    # Other checks of the same batch, and a script that Redis forgot.
    first, plain, refused = await taken(
        keys, opening(digest, "1"), Lookup(digest, 1, None), opening(digest, "2", ELSEWHERE)
    )
    assert first.acquired is not None
    assert first.acquired.outcome is AcquireOutcome.GRANTED
    assert (plain.acquired, refused.acquired) == (None, None)
    await command(own_link, "SCRIPT", "FLUSH")
    (third,) = await taken(keys, opening(digest, "3"))
    assert third.bucket is not None
    assert third.bucket.limits.quotas is not None
    assert (third.outcome, third.acquired, third.bucket.limits.quotas.name) == (TakeOutcome.LIMITED, None, "opened")
    assert {it.lease.lease_id for it in await RedisLeases(own_link).streams(key.account_id, LOGS.name)} == {"1"}
    await keys.put(digest, replace(key, revision=2, state=KeyState.REVOKED))
    assert (await taken(keys, opening(digest, "4")))[0].outcome is TakeOutcome.REVOKED
    assert await command(own_link, "SCRIPT", "EXISTS", OPENING_LIMITS.sha) == [1]
