"""Records and buckets in the real Redis: one atomic call per check, and no older record over a newer one."""

import asyncio
import os
import time
from binascii import b2a_base64

import pytest
from buckets import FIVE, VECTORS
from houses import ALL_SCOPES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from takes import DEFAULT, asked, taken

from authz.adapters.redis_keys import CHECK, RECORD_TTL_S, RedisKeys
from authz.adapters.redis_link import RedisLink, Script
from authz.core.check import KeyRecord, KeyState, TakeOutcome
from authz.core.limits import Limit, TokenBucket

SCOPES = frozenset(ALL_SCOPES)

MEMORY = Script(b"return redis.call('MEMORY', 'USAGE', KEYS[1])")
TTL = Script(b"return redis.call('PTTL', KEYS[1])")
ENCODING = Script(b"return redis.call('OBJECT', 'ENCODING', KEYS[1])")


def record(state: KeyState = KeyState.ACTIVE, revision: int = 1, **fields: object) -> KeyRecord:
    return KeyRecord(state, revision, "key_aaaabbbbccccdddd", "acct_aaaabbbbccccdddd", SCOPES, **fields)  # type: ignore[arg-type]


@pytest.fixture
def digest() -> bytes:
    return os.urandom(32)


def name(digest: bytes) -> bytes:
    return b"k:" + b2a_base64(digest, newline=False)[:43]


async def test_a_key_that_redis_does_not_hold_is_a_miss(keys: RedisKeys, digest: bytes) -> None:
    assert await asked(keys, digest) is None


@pytest.mark.parametrize(
    "kept",
    [
        record(),
        record(limit=Limit(7, 0.25)),
        record(expires_at_ms=4_102_444_800_000),
        KeyRecord(KeyState.ACTIVE, 9, "key_1", "acct_1", frozenset({f"scope-{number}:read" for number in range(60)})),
    ],
)
async def test_a_record_comes_back_as_it_was_put(keys: RedisKeys, digest: bytes, kept: KeyRecord) -> None:
    assert await keys.put(digest, kept)
    for remaining in (1, 2):
        take = await taken(keys, digest)
        assert take.outcome is TakeOutcome.GRANTED
        assert take.record == kept
        assert take.bucket is not None
        assert take.bucket.limit == (kept.limit or DEFAULT)
        assert take.bucket.remaining == pytest.approx(take.bucket.limit.capacity - remaining, abs=0.1)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (KeyState.REVOKED, TakeOutcome.REVOKED),
        (KeyState.DISABLED, TakeOutcome.DISABLED),
        (KeyState.SUSPENDED, TakeOutcome.SUSPENDED),
        (KeyState.UNKNOWN, TakeOutcome.UNKNOWN),
    ],
)
async def test_a_key_that_opens_nothing_takes_nothing(
    keys: RedisKeys, digest: bytes, state: KeyState, outcome: TakeOutcome
) -> None:
    await keys.put(digest, record(state) if state is not KeyState.UNKNOWN else KeyRecord(state))
    take = await taken(keys, digest)
    assert (take.outcome, take.bucket) == (outcome, None)


async def test_a_key_expires_by_redis_clock(keys: RedisKeys, digest: bytes) -> None:
    await keys.put(digest, record(expires_at_ms=int(time.time() * 1000) - 1))
    assert (await taken(keys, digest)).outcome is TakeOutcome.EXPIRED
    await keys.put(digest, record(expires_at_ms=int(time.time() * 1000) + 60_000))
    assert (await taken(keys, digest)).outcome is TakeOutcome.GRANTED


async def test_a_refused_check_spends_no_tokens(keys: RedisKeys, digest: bytes) -> None:
    limit = Limit(3, 0.001)
    await keys.put(digest, record(limit=limit))
    outcomes = [(await taken(keys, digest, cost)).outcome for cost in (2, 2, 1, 1)]
    assert outcomes == [TakeOutcome.GRANTED, TakeOutcome.LIMITED, TakeOutcome.GRANTED, TakeOutcome.LIMITED]


async def test_a_changed_limit_applies_to_the_next_check_and_gives_no_tokens(keys: RedisKeys, digest: bytes) -> None:
    await keys.put(digest, record(limit=Limit(100, 0.001)))
    await taken(keys, digest, 60)
    await keys.put(digest, record(revision=2, limit=Limit(10, 0.001)))
    small = await taken(keys, digest)
    assert small.bucket is not None
    assert small.bucket.remaining == pytest.approx(9, abs=0.1)
    await keys.put(digest, record(revision=3))
    default = await taken(keys, digest, default=Limit(500, 0.001))
    assert default.bucket is not None
    assert default.bucket.remaining == pytest.approx(8, abs=0.1)


async def test_a_slow_load_never_overwrites_a_newer_revocation(keys: RedisKeys, digest: bytes) -> None:
    assert await keys.put(digest, record(KeyState.REVOKED, revision=5))
    assert not await keys.put(digest, record(revision=4))
    assert not await keys.put(digest, KeyRecord(KeyState.UNKNOWN))
    assert (await taken(keys, digest)).outcome is TakeOutcome.REVOKED
    assert await keys.put(digest, record(KeyState.REVOKED, revision=5))


async def test_a_load_from_another_epoch_is_not_written(keys: RedisKeys, digest: bytes) -> None:
    assert not await keys.put(digest, record(), epoch="ffffffff")
    assert await asked(keys, digest) is None
    assert await keys.put(digest, record(), epoch=keys.epoch)


async def test_a_record_of_another_epoch_is_a_miss_and_makes_way(
    keys: RedisKeys, link: RedisLink, digest: bytes
) -> None:
    await keys.put(digest, record(revision=9))
    await taken(keys, digest, 20)
    link.epoch = "another1"
    assert await asked(keys, digest) is None
    assert await keys.put(digest, record(revision=2))
    take = await taken(keys, digest)
    assert take.record.revision == 2
    assert take.bucket is not None
    assert take.bucket.remaining < 100.5  # the tokens taken before are still gone


async def test_a_key_costs_at_most_four_hundred_bytes(keys: RedisKeys, link: RedisLink, digest: bytes) -> None:
    await keys.put(digest, record(limit=Limit(120_000, 1234.5678), expires_at_ms=4_102_444_800_000))
    await taken(keys, digest)
    assert await link.call(MEMORY, name(digest)) <= 400
    assert await link.call(ENCODING, name(digest)) in {b"ziplist", b"listpack"}


async def test_that_a_key_does_not_exist_is_remembered_for_a_short_while(
    keys: RedisKeys, link: RedisLink, digest: bytes
) -> None:
    await keys.put(digest, KeyRecord(KeyState.UNKNOWN))
    assert 0 < await link.call(TTL, name(digest)) <= 5000
    await keys.put(digest, record())
    assert await link.call(TTL, name(digest)) > RECORD_TTL_S * 1000 - 5000


async def test_checks_at_the_same_moment_share_one_bucket(keys: RedisKeys, digest: bytes) -> None:
    await keys.put(digest, record(limit=Limit(50, 0.001)))
    replies = await asyncio.gather(*(taken(keys, digest) for _ in range(200)))
    assert sum(reply.outcome is TakeOutcome.GRANTED for reply in replies) == 50


def clocked(now_s: float) -> Script:
    """The script with its clock set: the one line that reads Redis' own is replaced."""
    source = CHECK.source.decode()
    assert source.count("redis.call('TIME')") == 1
    seconds, micros = divmod(round(now_s * 1e6), 1_000_000)
    return Script(source.replace("redis.call('TIME')", f"{{{seconds}, {micros}}}").encode())


async def clocked_take(link: RedisLink, keys: RedisKeys, digest: bytes, cost: int, now_s: float) -> tuple[bool, float]:
    """Take tokens at a given time; tells whether they were granted, and what is left."""
    arguments = (keys.epoch, str(cost), "1", "1", "60000")
    reply = await link.call(clocked(now_s), name(digest), *(argument.encode() for argument in arguments))
    head, _, _ = reply.partition(b"\n")
    return head[:1] == b"g", float(head[2:])


async def test_the_published_vectors_hold_for_the_script(keys: RedisKeys, link: RedisLink, digest: bytes) -> None:
    await keys.put(digest, record(limit=FIVE))
    for now_s, cost, left, refused in VECTORS:
        granted, remaining = await clocked_take(link, keys, digest, cost, 1_700_000_000 + now_s)
        assert (granted, int(remaining + 1e-5)) == (not refused, left), now_s


LIMITS = st.builds(Limit, st.integers(1, 50), st.sampled_from([0.1, 0.5, 1, 2, 33.25]))
STEPS = st.lists(
    st.tuples(st.floats(-2, 40).map(lambda delay: round(delay, 3)), st.integers(0, 60), st.none() | LIMITS),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIMITS, STEPS)
async def test_the_script_is_the_reference_bucket(
    keys: RedisKeys, link: RedisLink, limit: Limit, steps: list[tuple[float, int, Limit | None]]
) -> None:
    digest, now_s, revision = os.urandom(32), 1_700_000_000.0, 1
    await keys.put(digest, record(limit=limit))
    bucket = None
    for delay_s, cost, changed in steps:
        now_s += delay_s
        if changed is not None:
            revision += 1
            await keys.put(digest, record(revision=revision, limit=changed))
            limit = changed
        # A bucket is full until its first use.
        bucket = TokenBucket(limit, limit.capacity, now_s) if bucket is None else bucket.under(limit)
        granted, bucket = bucket.take(cost, now_s)
        seen, remaining = await clocked_take(link, keys, digest, cost, now_s)
        assert seen is granted
        assert remaining == pytest.approx(bucket.remaining, abs=1e-5)
