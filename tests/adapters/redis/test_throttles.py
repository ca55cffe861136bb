"""Counts of attempts in the real Redis: windows of the requested length, and no address in a key's name."""

import asyncio
import os

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.throttles import RedisThrottles

KEYS = Script(b"return redis.call('KEYS', ARGV[1])")
TTL = Script(b"return redis.call('PTTL', KEYS[1])")


def whoever() -> str:
    return f"{os.urandom(6).hex()}@example.com"


async def test_of_attempts_that_come_together_only_so_many_go_on(link: RedisLink) -> None:
    throttles, whom = RedisThrottles(link), whoever()
    admitted = await asyncio.gather(*(throttles.take("kind", whom, 7, 60) for _ in range(100)))
    assert admitted.count(True) == 7
    await throttles.refund("kind", whom)
    assert [await throttles.take("kind", whom, 7, 60) for _ in range(2)] == [True, False]


async def test_taking_back_what_was_never_counted_gives_no_credit(link: RedisLink) -> None:
    throttles, whom = RedisThrottles(link), whoever()
    await throttles.refund("kind", whom)
    assert [await throttles.take("kind", whom, 1, 60) for _ in range(2)] == [True, False]


async def test_a_window_is_as_long_as_asked_for_and_an_attempt_does_not_lengthen_it(link: RedisLink) -> None:
    throttles, whom, kind = RedisThrottles(link), whoever(), os.urandom(4).hex()
    for _ in range(3):
        await throttles.take(kind, whom, 2, 3600)
    (key,) = await link.call(KEYS, b"-", f"t:{kind}:*".encode())
    assert 3_500_000 < await link.call(TTL, key) <= 3_600_000
    assert whom.encode() not in key
