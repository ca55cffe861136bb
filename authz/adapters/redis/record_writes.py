"""Writes of records that end in time: `put.lua` with the end of the lock under which the record was read.

A write that is late could bring back what a newer change had replaced, if Redis lost that change in between. So each
write names the time, by the clock of Redis, after which it has no effect, and its caller keeps the lock until then.
Which records are written is in `keys.py` and `cluster_accounts.py`.
"""

import asyncio
import time
from collections.abc import Awaitable

from authz.adapters.redis.connection.errors import OtherData, Redirected
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.core.errors import StoreUnavailable
from authz.core.limits import LostBuckets

WRITE_S_MAX = 0.5
"""The longest time that a write may take: a key and its account fit into the lock of the shortest transaction."""

_TOO_LATE = -1


async def write(
    link: RedisLink,
    script: Script,
    key: bytes,
    arguments: tuple[object, ...],
    *record: bytes,
    begins: LostBuckets = LostBuckets.FULL,
) -> bool:
    """Write a record by `put.lua` or its variant; return whether Redis agrees with it now.

    `arguments` are those up to the start of the time to live; `begins` is how a bucket begins that is not there.
    Returns or raises `StoreUnavailable` only when the write has had its effect, or can have none any more; `OtherData`
    if it has none because the data were lost.
    """
    ends_at_s = time.monotonic() + min(link.deadline_s, WRITE_S_MAX)
    end_us = link.clock.earliest_us(ends_at_s)
    encoded = (str(argument).encode() for argument in (*arguments, end_us))
    is_sent = link.is_up
    try:
        done = await link.call(script, key, *encoded, link.data_mark, begins[0].encode(), *record)
    except (Redirected, OtherData):
        raise  # it had no effect
    except BaseException:
        if is_sent:  # it may be on its way still
            await asyncio.sleep(ends_at_s - time.monotonic())
        raise
    if done == _TOO_LATE:
        link.read_clock()  # it may have been set forward
        raise StoreUnavailable("redis", "the record arrived too late to be written")
    return bool(done)


async def noted(written: Awaitable[bool], note: Awaitable[None]) -> bool:
    """Write a record and note its state beside its leases at the same time; wait for both, also if one fails."""
    done, failure = await asyncio.gather(written, note, return_exceptions=True)
    for result in (done, failure):
        if isinstance(result, BaseException):
            raise result
    return bool(done)
