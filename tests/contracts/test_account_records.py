"""What every projection promises about accounts: one record stops all keys, and one bucket is shared by them."""

import asyncio
import os
from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from support.contracts.key_lookups import DEFAULT, account, record
from support.contracts.key_projections import Subject

from authz.core.check import KeyRecord, Lookup, Take, TakeOutcome
from authz.core.limits import Limit
from authz.service.ports import TakeReply

SLOW = 0.001


@pytest.fixture
def account_id() -> str:
    return f"acct_{os.urandom(8).hex()}"


async def keys_of(keys: Subject, account_id: str, count: int, **fields: object) -> list[bytes]:
    """Write some keys of an account, and its record; returns their digests."""
    digests = [os.urandom(32) for _ in range(count)]
    for number, digest in enumerate(digests):
        kept = replace(record(), account_id=account_id, key_id=f"key_{number}", **fields)
        assert await keys.put(digest, kept)
    return digests


async def asked(keys: Subject, digest: bytes, cost: int = 1, limit: Limit | None = None) -> TakeReply:
    answer: asyncio.Future[TakeReply] = asyncio.get_running_loop().create_future()

    def taken(_places: Sequence[int], replies: Sequence[TakeReply]) -> None:
        answer.set_result(replies[0])

    keys.take([Lookup(digest, cost, None)], DEFAULT, taken, account=limit)
    return await answer


async def outcome(keys: Subject, digest: bytes, cost: int = 1, limit: Limit | None = None) -> TakeOutcome:
    reply = await asked(keys, digest, cost, limit)
    assert isinstance(reply, Take)
    return reply.outcome


async def remaining(keys: Subject, digest: bytes, limit: Limit | None = None) -> float:
    reply = await asked(keys, digest, 0, limit)
    assert isinstance(reply, Take)
    assert reply.bucket is not None
    return reply.bucket.remaining


async def test_one_record_stops_every_key_of_an_account_and_no_other(keys: Subject, account_id: str) -> None:
    mine = await keys_of(keys, account_id, 5)
    other = await keys_of(keys, f"{account_id}x", 1)
    # Remembered or not, with or without a bucket.
    for digest in mine[:3]:
        assert await outcome(keys, digest) is TakeOutcome.GRANTED
    assert await keys.put_account(account(account_id, revision=2, is_suspended=True))
    assert [await outcome(keys, digest) for digest in mine] == [TakeOutcome.SUSPENDED] * 5
    assert await outcome(keys, mine[0], limit=Limit(9, 1)) is TakeOutcome.SUSPENDED
    assert await outcome(keys, other[0]) is TakeOutcome.GRANTED
    assert await keys.put_account(account(account_id, revision=3))
    assert [await outcome(keys, digest) for digest in mine] == [TakeOutcome.GRANTED] * 5


async def test_an_older_record_does_not_undo_a_suspension(keys: Subject, account_id: str) -> None:
    (digest,) = await keys_of(keys, account_id, 1)
    before = keys.epoch_of(digest)
    assert await keys.put_account(account(account_id, revision=7, is_suspended=True))
    assert not await keys.put_account(account(account_id, revision=6))
    assert not await keys.put_account(account(account_id, revision=6), epoch=before)
    assert await outcome(keys, digest) is TakeOutcome.SUSPENDED
    assert await keys.put_account(account(account_id, revision=7, is_suspended=True))


async def test_an_account_without_a_record_is_a_miss_that_costs_nothing(keys: Subject, account_id: str) -> None:
    digest, kept = os.urandom(32), replace(record(), account_id=account_id, limit=Limit(9, SLOW))
    await keys.put_key(digest, kept)
    for _ in range(20):
        assert await asked(keys, digest) is None
    assert await keys.put_account(account(account_id))
    while (left := await remaining(keys, digest)) < 8.9:  # in a cluster tokens come back a moment later
        await asyncio.sleep(0.01)
    assert left == pytest.approx(9, abs=0.1)


async def test_another_life_voids_the_records_of_accounts(keys: Subject, account_id: str) -> None:
    (digest,) = await keys_of(keys, account_id, 1)
    before = keys.epoch_of(digest)
    await keys.start_new_epoch()
    await keys.put_key(digest, replace(record(), account_id=account_id))
    assert await asked(keys, digest) is None
    assert not await keys.put_account(account(account_id), epoch=before)
    assert await asked(keys, digest) is None
    assert await keys.put_account(account(account_id, is_suspended=True), epoch=keys.epoch_of(digest))
    assert await outcome(keys, digest) is TakeOutcome.SUSPENDED


async def test_the_keys_of_an_account_share_its_bucket(keys: Subject, account_id: str) -> None:
    mine = await keys_of(keys, account_id, 4, limit=Limit(10, SLOW))
    limit = Limit(25, SLOW)
    replies = await asyncio.gather(*(asked(keys, digest, 1, limit) for digest in mine * 10))
    granted = [reply for reply in replies if isinstance(reply, Take) and reply.outcome is TakeOutcome.GRANTED]
    assert len(granted) == 25
    refused = await asked(keys, mine[0], 1, limit)
    assert isinstance(refused, Take)
    assert refused.bucket is not None
    assert refused.outcome is TakeOutcome.LIMITED
    assert await outcome(keys, (await keys_of(keys, account_id, 1))[0], 1, limit) is TakeOutcome.LIMITED


async def test_a_refusal_by_either_bucket_spends_no_token_of_the_other(keys: Subject, account_id: str) -> None:
    small, large = await keys_of(keys, account_id, 2)
    await keys.put_key(small, replace(record(revision=2), account_id=account_id, limit=Limit(2, SLOW)))
    limit = Limit(100, SLOW)
    outcomes = [await outcome(keys, small, 1, limit) for _ in range(5)]
    assert outcomes == [TakeOutcome.GRANTED] * 2 + [TakeOutcome.LIMITED] * 3
    assert await outcome(keys, large, 98, limit) is TakeOutcome.GRANTED
    assert await outcome(keys, large, 5, limit) is TakeOutcome.LIMITED  # by the account
    reply = await asked(keys, large, 0)  # without a bucket of the account
    while isinstance(reply, Take) and reply.bucket is not None and reply.bucket.remaining < 22:
        await asyncio.sleep(0.01)  # in a cluster tokens come back a moment later
        reply = await asked(keys, large, 0)
    assert isinstance(reply, Take)
    assert reply.bucket is not None
    assert reply.bucket.remaining == pytest.approx(120 - 98, abs=1)


async def test_the_emptier_bucket_is_shown_beside_both_limits(keys: Subject, account_id: str) -> None:
    (digest,) = await keys_of(keys, account_id, 1, limit=Limit(10, SLOW))
    for limit, is_account in ((Limit(100, SLOW), False), (Limit(5, SLOW), True), (Limit(50, SLOW), None)):
        for _ in range(2):  # the second time from the cache
            reply = await asked(keys, digest, 1, limit)
            assert isinstance(reply, Take)
            bucket = reply.bucket
            assert bucket is not None
            if is_account is not None:
                assert bucket.limits.is_account is is_account
            key = bucket.limits.other if bucket.limits.is_account else bucket.limit
            shown = bucket.limit if bucket.limits.is_account else bucket.limits.other
            assert (key, shown) == (Limit(10, SLOW), limit)


async def test_the_own_limits_of_keys_come_on_top_of_the_policys(keys: Subject, account_id: str) -> None:
    (digest,) = await keys_of(keys, account_id, 1, limit=Limit(1000, SLOW))
    limit = Limit(20, SLOW)
    for _ in range(2):
        assert await outcome(keys, digest, 21, limit) is TakeOutcome.LIMITED
    assert await keys.put_account(account(account_id, revision=2, own=Limit(1000, SLOW)))
    reply = await asked(keys, digest, 10, limit)
    assert isinstance(reply, Take)
    assert reply.bucket is not None
    assert {reply.bucket.limit.capacity, reply.bucket.limits.other and reply.bucket.limits.other.capacity} == {
        1000,
        1020,
    }
    assert await remaining(keys, digest, limit) == pytest.approx(10, abs=0.5)  # a larger bucket is not a fuller one


async def test_a_key_that_has_ended_tells_nothing_of_its_account(keys: Subject, account_id: str) -> None:
    (digest,) = await keys_of(keys, account_id, 1)
    await keys.put_account(account(account_id, revision=2, is_suspended=True))
    ended: KeyRecord = replace(record(revision=2), account_id=account_id, expires_at_ms=1)
    await keys.put_key(digest, ended)
    assert await outcome(keys, digest) is TakeOutcome.EXPIRED
