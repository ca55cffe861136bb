"""Key records and their buckets in Redis, written by the scripts of the sidecar itself.

The checks that use them are in `parts/keys.py`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bench.load.callers import SCOPES
from redis.asyncio import Redis

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.records import CHECK, PUT
from authz.core.check import AccountRecord, KeyRecord, KeyState, Lookup
from authz.core.keys import digest
from authz.core.limits import Limit

_LIMIT = Limit(1_000_000, 0.01)
_KEYS_PER_ACCOUNT = 20
_OWN = Limit(_LIMIT.capacity * _KEYS_PER_ACCOUNT, _LIMIT.refill_per_s * _KEYS_PER_ACCOUNT)
_AT_ONCE = 1_000
_DEADLINE_S = 20.0


async def fill(url: str, secrets: Sequence[str], count: int) -> None:
    """Project `count` keys, of which those with `secrets` can be used, and take a token of each."""
    digests = [digest(secret.encode()) for secret in secrets]
    digests += [os.urandom(32) for _ in range(count - len(digests))]
    async with _linked(url) as link:
        keys = RedisKeys(link, negative_ttl_s=5)
        step = -(-count // _AT_ONCE)
        await asyncio.gather(
            *(_put(keys, digests, range(first, min(first + step, count))) for first in range(0, count, step))
        )
        # Replies come in order: with this one, every token has been taken.
        await _put(keys, digests, range(1))


async def memory_bytes(url: str) -> int:
    """Return how much memory Redis uses."""
    async with Redis.from_url(url) as redis:
        return int((await redis.info("memory"))["used_memory"])


@asynccontextmanager
async def _linked(url: str) -> AsyncIterator[RedisLink]:
    link = RedisLink(url, deadline_s=_DEADLINE_S, in_flight_max=4 * _AT_ONCE, scripts=(CHECK, PUT))
    link.start()
    await link.reached.wait()
    yield link
    await link.close()


async def _put(keys: RedisKeys, digests: Sequence[bytes], numbers: range) -> None:
    for number in numbers:
        key_id, account_id = f"key_{number:016d}", f"acct_{number // _KEYS_PER_ACCOUNT:016d}"
        if number in {numbers.start, number // _KEYS_PER_ACCOUNT * _KEYS_PER_ACCOUNT}:
            await keys.put_account(AccountRecord(account_id, 1, own=_OWN))
        record = KeyRecord(KeyState.ACTIVE, 1, key_id, account_id, frozenset(SCOPES), _LIMIT)
        await keys.put(digests[number], record)
        keys.take([Lookup(digests[number], 1, None)], _LIMIT, lambda _places, _replies: None)
