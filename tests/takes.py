"""Ask a projection as a check does, and wait for the answer."""

import asyncio

from authz.core.check import Lookup, Take
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit
from authz.service.ports import KeyProjection, TakeReply

DEFAULT = Limit(capacity=120, refill_per_s=2)


def asked(keys: KeyProjection, digest: bytes, cost: int = 1, default: Limit = DEFAULT) -> asyncio.Future[TakeReply]:
    answer: asyncio.Future[TakeReply] = asyncio.get_running_loop().create_future()
    keys.take(Lookup(digest, cost, None), default, answer.set_result)
    return answer


async def taken(keys: KeyProjection, digest: bytes, cost: int = 1, default: Limit = DEFAULT) -> Take:
    reply = await asked(keys, digest, cost, default)
    assert isinstance(reply, Take)
    return reply


async def until_answered(keys: KeyProjection, digest: bytes) -> Take | None:
    """Ask until the store is in reach; returns its answer."""
    while isinstance(reply := await asked(keys, digest), StoreUnavailable):
        await asyncio.sleep(0.01)
    return reply
