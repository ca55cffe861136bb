"""The contract of every projection of key records: the one in memory for tests, and Redis in all its forms."""

import asyncio
import os
import time

import pytest
from msgspec.structs import replace
from support.builders import record
from support.contracts.key_lookups import DEFAULT, start_take, take_one
from support.contracts.key_projections import Subject

from authz.core.check import KeyRecord, KeyState, Take, TakeOutcome
from authz.core.limits import Limit

SLOW = 0.001
REVOKED = record(state=KeyState.REVOKED, revision=5)
UNKNOWN = KeyRecord(KeyState.UNKNOWN)
MANY = frozenset(f"scope-{number}:read" for number in range(60))


@pytest.fixture
def digest() -> bytes:
    return os.urandom(32)


async def held(keys: Subject, digest: bytes) -> KeyRecord | None:
    reply = await start_take(keys, digest, cost=0)
    return reply.record if isinstance(reply, Take) else None


@pytest.mark.parametrize(
    "kept",
    [
        record(),
        replace(record(), scopes=frozenset()),
        replace(record(), scopes=MANY),
        replace(record(), limit=Limit(7, 0.25)),
        replace(record(), expires_at_ms=4_102_444_800_000),
    ],
    ids=["plain", "no scopes", "many scopes", "own limit", "expiring"],
)
async def test_a_record_comes_back_as_it_was_put(keys: Subject, digest: bytes, kept: KeyRecord) -> None:
    assert await start_take(keys, digest) is None
    assert await keys.put(digest, kept)
    for spent in (1, 2):
        take = await take_one(keys, digest)
        assert (take.outcome, take.record) == (TakeOutcome.GRANTED, kept)
        assert take.bucket is not None
        assert take.bucket.limit == (kept.limit or DEFAULT)
        assert take.bucket.remaining == pytest.approx(take.bucket.limit.capacity - spent, abs=0.2)


@pytest.mark.parametrize("state", [state for state in KeyState if state is not KeyState.ACTIVE])
async def test_a_key_that_is_not_active_spends_no_tokens(keys: Subject, digest: bytes, state: KeyState) -> None:
    await keys.put(digest, UNKNOWN if state is KeyState.UNKNOWN else record(state=state))
    take = await take_one(keys, digest)
    assert (take.outcome, take.bucket) == (TakeOutcome(state), None)


async def test_a_key_expires_at_its_time(keys: Subject, digest: bytes) -> None:
    now_ms = int(time.time() * 1000)
    await keys.put(digest, replace(record(), expires_at_ms=now_ms - 1))
    assert (await take_one(keys, digest)).outcome is TakeOutcome.EXPIRED
    await keys.put(digest, replace(record(), expires_at_ms=now_ms + 60_000))
    assert (await take_one(keys, digest)).outcome is TakeOutcome.GRANTED


async def test_a_refused_check_spends_no_tokens(keys: Subject, digest: bytes) -> None:
    await keys.put(digest, replace(record(), limit=Limit(3, SLOW)))
    outcomes = [(await take_one(keys, digest, cost)).outcome for cost in (2, 2, 1, 1)]
    assert outcomes == [TakeOutcome.GRANTED, TakeOutcome.LIMITED, TakeOutcome.GRANTED, TakeOutcome.LIMITED]


async def test_checks_at_the_same_moment_share_one_bucket(keys: Subject, digest: bytes) -> None:
    await keys.put(digest, replace(record(), limit=Limit(50, SLOW)))
    takes = await asyncio.gather(*(take_one(keys, digest) for _ in range(200)))
    assert sum(take.outcome is TakeOutcome.GRANTED for take in takes) == 50


async def test_a_changed_limit_applies_to_the_next_check_and_gives_no_tokens(keys: Subject, digest: bytes) -> None:
    await keys.put(digest, replace(record(), limit=Limit(100, SLOW)))
    left = [await remaining(keys, digest, cost=60)]
    await keys.put(digest, replace(record(revision=2), limit=Limit(10, SLOW)))
    left.append(await remaining(keys, digest))
    await keys.put(digest, record(revision=3))
    left.append(await remaining(keys, digest, default=Limit(500, SLOW)))
    left.append(await remaining(keys, digest, default=Limit(5, SLOW)))
    assert left == pytest.approx([40, 9, 8, 4], abs=0.1)


async def test_a_newer_revision_replaces_an_older_one_and_not_the_other_way(keys: Subject, digest: bytes) -> None:
    assert await keys.put(digest, record(revision=4))
    assert await keys.put(digest, REVOKED)
    assert not await keys.put(digest, record(revision=4))
    assert not await keys.put(digest, record(revision=4), epoch=keys.epoch_of(digest))
    assert await keys.put(digest, REVOKED)
    assert await held(keys, digest) == REVOKED


async def test_scopes_that_were_taken_away_are_gone(keys: Subject, digest: bytes) -> None:
    await keys.put(digest, replace(record(), scopes=MANY))
    await keys.put(digest, record(revision=2))
    assert await held(keys, digest) == record(revision=2)


async def test_that_a_key_is_unknown_gives_way_to_the_key_and_never_replaces_it(keys: Subject, digest: bytes) -> None:
    assert await keys.put(digest, UNKNOWN)
    assert await held(keys, digest) == UNKNOWN
    assert await keys.put(digest, record())
    assert not await keys.put(digest, UNKNOWN)
    assert await held(keys, digest) == record()


async def test_a_new_epoch_voids_every_record_but_refunds_no_tokens(keys: Subject, digest: bytes) -> None:
    before = keys.epoch_of(digest)
    await keys.put(digest, replace(record(revision=9), limit=Limit(100, SLOW)))
    await take_one(keys, digest, 70)
    await keys.start_new_epoch()
    assert await held(keys, digest) is None
    assert not await keys.put(digest, record(), epoch=before)
    assert await held(keys, digest) is None
    assert await keys.put(digest, replace(record(revision=2), limit=Limit(100, SLOW)), epoch=keys.epoch_of(digest))
    assert await remaining(keys, digest) == pytest.approx(29, abs=0.1)


async def test_a_change_in_a_new_epoch_is_settled_soon_and_one_in_an_old_epoch_at_once(
    keys: Subject, digest: bytes
) -> None:
    await keys.start_new_epoch()
    await keys.put(digest, REVOKED)
    started_s = time.monotonic()
    await keys.settled()
    assert time.monotonic() - started_s < 2.5
    assert await held(keys, digest) == REVOKED
    started_s = time.monotonic()
    await keys.settled()
    assert time.monotonic() - started_s < 0.5


async def remaining(keys: Subject, digest: bytes, cost: int = 1, default: Limit = DEFAULT) -> float:
    take = await take_one(keys, digest, cost, default)
    assert take.bucket is not None
    return take.bucket.remaining
