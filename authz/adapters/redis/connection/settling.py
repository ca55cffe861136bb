"""When a change that was written to one primary holds for every process, around the replacement of that primary.

`link.py` leaves a primary that was replaced; `primary.py` says how soon.
"""

import asyncio

from authz.adapters.redis.connection.handshake import EPOCH_AGE, EPOCH_KEY
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.primary import LEFT_WITHIN_S, Sight
from authz.core.errors import StoreUnavailable

_QUERIES = 3


async def confirm(link: RedisLink, connected_at_s: float | None) -> None:
    """Raise `StoreUnavailable` unless the connection of that time still leads to the primary.

    Then no process had used a later primary when this was called: what they load from there includes the change.
    """
    if link.is_fixed:
        return
    sight = Sight.NO_ANSWER
    for _ in range(_QUERIES):
        if sight is Sight.NO_ANSWER:
            sight = await link.look()
    if sight is Sight.NO_ANSWER:
        raise StoreUnavailable("redis", "no sentinel confirms the primary")
    if sight is Sight.MOVED or connected_at_s is None or link.connected_at_s != connected_at_s:
        raise StoreUnavailable("redis", "the primary was replaced during a change")


async def until_others_left(link: RedisLink) -> None:
    """Return when no process uses a former primary: each has left it, or will write nothing to it any more."""
    if link.is_fixed:
        return
    try:
        age_s = await link.call(EPOCH_AGE, EPOCH_KEY) / 1000
    except StoreUnavailable:
        age_s = 0.0
    if age_s < LEFT_WITHIN_S:
        await asyncio.sleep(LEFT_WITHIN_S - age_s)
