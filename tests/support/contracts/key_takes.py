"""A key's record, and how a projection is asked for one, as a check does, with the wait for the answer."""

import asyncio
from collections.abc import Sequence

from support.servers.stack import ALL_SCOPES

from authz.core.check import KeyRecord, KeyState, Lookup, Take
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit
from authz.service.ports import KeyProjection, TakeReply

DEFAULT = Limit(capacity=120, refill_per_s=2)
_SCOPES = frozenset(ALL_SCOPES)


def record(state: KeyState = KeyState.ACTIVE, revision: int = 1, **fields: object) -> KeyRecord:
    return KeyRecord(state, revision, "key_aaaabbbbccccdddd", "acct_aaaabbbbccccdddd", _SCOPES, **fields)  # type: ignore[arg-type]


async def asked_together(keys: KeyProjection, digests: Sequence[bytes]) -> list[TakeReply]:
    """Ask for several keys at once; returns the answers in their order."""
    return await looked_up(keys, [Lookup(digest, 1, None) for digest in digests])


async def looked_up(keys: KeyProjection, lookups: Sequence[Lookup]) -> list[TakeReply]:
    """Ask several lookups at once; returns the answers in their order."""
    answers: dict[int, TakeReply] = {}
    complete = asyncio.Event()

    def told(places: Sequence[int], replies: Sequence[TakeReply]) -> None:
        assert answers.keys().isdisjoint(places)
        answers.update(zip(places, replies, strict=True))
        if len(answers) == len(lookups):
            complete.set()

    keys.take(lookups, DEFAULT, told)
    await complete.wait()
    return [answers[place] for place in range(len(lookups))]


def asked(keys: KeyProjection, digest: bytes, cost: int = 1, default: Limit = DEFAULT) -> asyncio.Future[TakeReply]:
    answer: asyncio.Future[TakeReply] = asyncio.get_running_loop().create_future()
    keys.take([Lookup(digest, cost, None)], default, lambda _places, replies: answer.set_result(replies[0]))
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
