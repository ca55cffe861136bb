"""Takes from a projection, as checks make them, one or many at a time, with the wait for the reply."""

import asyncio
from collections.abc import Sequence

from support.servers.stack import ALL_SCOPES

from authz.core.check import AccountRecord, KeyRecord, KeyState, Lookup, Take
from authz.core.errors import StoreUnavailable
from authz.core.limits import KeyLimits, Limit
from authz.service.ports import KeyProjection, TakeReply

DEFAULT = Limit(capacity=120, refill_per_s=2)
_SCOPES = frozenset(ALL_SCOPES)


def record(state: KeyState = KeyState.ACTIVE, revision: int = 1, **fields: object) -> KeyRecord:
    return KeyRecord(state, revision, "key_aaaabbbbccccdddd", "acct_aaaabbbbccccdddd", _SCOPES, **fields)  # type: ignore[arg-type]


def account(account_id: str = "acct_aaaabbbbccccdddd", **fields: object) -> AccountRecord:
    return AccountRecord(account_id, **fields)  # type: ignore[arg-type]


async def put(keys: KeyProjection, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
    """Write a key's record and that of its account, unless a newer one is there, as a load does."""
    await keys.put_account(account(record.account_id), epoch=epoch)
    return await keys.put(digest, record, epoch=epoch)


async def take_many(keys: KeyProjection, digests: Sequence[bytes]) -> list[TakeReply]:
    """Take from several keys in one batch; returns the replies in their order."""
    return await take_lookups(keys, [Lookup(digest, 1, None) for digest in digests])


async def take_lookups(keys: KeyProjection, lookups: Sequence[Lookup]) -> list[TakeReply]:
    """Make several lookups in one batch; returns the replies in their order."""
    answers: dict[int, TakeReply] = {}
    complete = asyncio.Event()

    def receive(places: Sequence[int], replies: Sequence[TakeReply]) -> None:
        assert answers.keys().isdisjoint(places)
        answers.update(zip(places, replies, strict=True))
        if len(answers) == len(lookups):
            complete.set()

    keys.take(lookups, DEFAULT, receive)
    await complete.wait()
    return [answers[place] for place in range(len(lookups))]


def start_take(
    keys: KeyProjection,
    digest: bytes,
    cost: int = 1,
    default: Limit = DEFAULT,
    *,
    account: Limit | None = None,
    limits: KeyLimits | None = None,
) -> asyncio.Future[TakeReply]:
    answer: asyncio.Future[TakeReply] = asyncio.get_running_loop().create_future()
    lookups = [Lookup(digest, cost, None)]
    keys.take(lookups, default, lambda _places, replies: answer.set_result(replies[0]), account=account, limits=limits)
    return answer


async def take_one(keys: KeyProjection, digest: bytes, cost: int = 1, default: Limit = DEFAULT) -> Take:
    reply = await start_take(keys, digest, cost, default)
    assert isinstance(reply, Take)
    return reply


async def take_when_available(keys: KeyProjection, digest: bytes) -> Take | None:
    """Repeat until the store is available; returns its reply."""
    while isinstance(reply := await start_take(keys, digest), StoreUnavailable):
        await asyncio.sleep(0.01)
    return reply
