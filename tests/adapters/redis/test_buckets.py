"""The bucket of the real Redis, in all its forms, on a clock that tests move, held against the reference model."""

import os
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot
from support.bucket_vectors import FIVE, VECTORS
from support.contracts.key_lookups import put, record

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.records import BUCKET_BYTES, CHECK, redis_key
from authz.adapters.redis.store import RedisStore
from authz.core.limits import Limit, TokenBucket

VALUE = Script(b"return redis.call('GET', KEYS[1])")


@pytest.fixture
def digest() -> bytes:
    return os.urandom(32)


def epoch(store: RedisStore, digest: bytes) -> bytes:
    """Return the epoch of the server that has a key."""
    link = store.link if isinstance(store.link, RedisLink) else store.link.owner(key_slot(redis_key(digest)))
    assert link is not None
    return link.epoch.encode()


def clocked(now_s: float) -> Script:
    """The script with its clock set: the one line that reads Redis' own is replaced."""
    source = CHECK.source.decode()
    assert source.count("call('TIME')") == 1
    seconds, micros = divmod(round(now_s * 1e6), 1_000_000)
    return Script(source.replace("call('TIME')", f"{{{seconds}, {micros}}}").encode())


async def clocked_take(
    store: RedisStore, digest: bytes, cost: int, now_s: float, remembered: Limit | None = None
) -> tuple[bool, float]:
    """Take tokens at a given time, with or without a cached record; returns the outcome and the remaining tokens."""
    header, limit = epoch(store, digest), remembered or Limit(1, 1)
    if remembered is not None:
        header, _, _ = (await store.link.call(VALUE, redis_key(digest)))[BUCKET_BYTES:].partition(b"\n")
    start_take = struct.pack("<10d", cost, 0, limit.capacity, limit.refill_per_s, 0, 0, 1, 1, 0, 0)
    reply = await store.link.call(clocked(now_s), redis_key(digest), header + b"\n", b"-\n", start_take)
    assert (len(reply) == 1 + BUCKET_BYTES) is (remembered is not None)
    return reply[:1] in b"gG", struct.unpack_from("<d", reply, 1)[0]


async def test_each_half_minute_has_a_first_use(store: RedisStore, digest: bytes) -> None:
    await put(store.keys, digest, record(limit=Limit(4, 0.001)))
    arguments = (epoch(store, digest) + b"\n", b"-\n", struct.pack("<10d", 1, 0, 1, 1, 0, 0, 1, 1, 0, 0))
    letters = [
        (await store.link.call(clocked(1_700_000_010.0 + at_s), redis_key(digest), *arguments))[:1]
        for at_s in (0, 1, 29.9, 30, 31, 59.9, 60, 61)
    ]
    assert letters == [b"G", b"g", b"g", b"G", b"l", b"l", b"L", b"l"]


async def test_the_published_vectors_hold_for_the_script(store: RedisStore, digest: bytes) -> None:
    await put(store.keys, digest, record(limit=FIVE))
    for number, (now_s, cost, left, refused) in enumerate(VECTORS):
        remembered = FIVE if number % 2 else None
        granted, remaining = await clocked_take(store, digest, cost, 1_700_000_000 + now_s, remembered)
        assert (granted, int(remaining + 1e-5)) == (not refused, left), now_s


LIMITS = st.builds(Limit, st.integers(1, 50), st.sampled_from([0.1, 0.5, 1, 2, 33.25]))
STEPS = st.lists(
    st.tuples(
        st.floats(-2, 40).map(lambda delay: round(delay, 3)), st.integers(0, 60), st.none() | LIMITS, st.booleans()
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIMITS, STEPS)
async def test_the_script_is_the_reference_bucket(
    store: RedisStore, limit: Limit, steps: list[tuple[float, int, Limit | None, bool]]
) -> None:
    digest, now_s, revision = os.urandom(32), 1_700_000_000.0, 1
    await put(store.keys, digest, record(limit=limit))
    bucket = None
    for delay_s, cost, changed, is_remembered in steps:
        now_s += delay_s
        if changed is not None:
            revision += 1
            await put(store.keys, digest, record(revision=revision, limit=changed))
            limit = changed
        # A bucket is full until its first use.
        bucket = TokenBucket(limit, limit.capacity, now_s) if bucket is None else bucket.under(limit)
        granted, bucket = bucket.take(cost, now_s)
        seen, remaining = await clocked_take(store, digest, cost, now_s, limit if is_remembered else None)
        assert seen is granted
        assert remaining == pytest.approx(bucket.remaining, abs=1e-5)
