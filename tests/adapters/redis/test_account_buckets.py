"""The buckets of key and account in the real Redis, on a clock that tests move, compared with the reference model."""

import os
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.contracts.key_lookups import account, record

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.records import CHECK, account_header, account_key, header_of, redis_key
from authz.core.limits import Limit, TokenBucket, take_both

START_S = 1_700_000_000.0
LIMITS = st.builds(Limit, st.integers(1, 50), st.sampled_from([0.1, 0.5, 1, 2, 33.25]))
STEPS = st.lists(
    st.tuples(st.floats(-30, 40).map(lambda delay: round(delay, 3)), st.integers(0, 60), st.booleans()),
    min_size=1,
    max_size=12,
)


def clocked(now_s: float) -> Script:
    """The script with its clock set."""
    source = CHECK.source.decode()
    assert source.count("call('TIME')") == 1
    seconds, micros = divmod(round(now_s * 1e6), 1_000_000)
    return Script(source.replace("call('TIME')", f"{{{seconds}, {micros}}}").encode())


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIMITS, LIMITS, STEPS)
async def test_the_script_is_the_reference_of_both_buckets(
    link: RedisLink, limit: Limit, account_limit: Limit, steps: list[tuple[float, int, bool]]
) -> None:
    digest, keys, now_s = os.urandom(32), RedisKeys(link, negative_ttl_s=5), START_S
    key = replace(record(), account_id=f"acct_{os.urandom(8).hex()}", limit=limit)
    of_account = account(key.account_id)
    await keys.put(digest, key)
    await keys.put_account(of_account)
    cached = header_of(link.epoch, key), account_header(link.epoch, of_account)
    buckets: tuple[TokenBucket, TokenBucket] | None = None
    for delay_s, cost, is_cached in steps:
        now_s += delay_s
        of = (limit, account_limit)
        doubles = [cost, 0, *(number for it in of for number in (it.capacity, it.refill_per_s)), 1, 1]
        asked = struct.pack("<10d", *doubles, account_limit.capacity, account_limit.refill_per_s)
        headers = cached if is_cached else (link.epoch, "-")
        names = (redis_key(digest), account_key(key.account_id if is_cached else ""))
        reply = await link.call(clocked(now_s), names, *(header.encode() + b"\n" for header in headers), asked)
        if buckets is None:
            buckets = (
                TokenBucket(limit, limit.capacity, now_s),
                TokenBucket(account_limit, account_limit.capacity, now_s),
            )
        granted, *after, is_account = take_both(*buckets, cost, now_s)
        buckets = after[0], after[1]
        shown = buckets[1] if is_account else buckets[0]
        if abs(buckets[0].remaining - buckets[1].remaining) > 1e-4:
            assert (reply[:1] in b"hHmM") is is_account
        assert (reply[:1] in b"gGhH") is granted
        assert struct.unpack_from("<d", reply, 1)[0] == pytest.approx(shown.remaining, abs=1e-4)
        assert (len(reply) == 17) is is_cached


async def test_a_clock_that_is_set_back_by_an_hour_locks_no_key_out(link: RedisLink) -> None:
    digest, keys = os.urandom(32), RedisKeys(link, negative_ttl_s=5)
    key = replace(record(), account_id=f"acct_{os.urandom(8).hex()}", limit=Limit(10, 2))
    await keys.put(digest, key)
    await keys.put_account(account(key.account_id))
    asked = struct.pack("<10d", 10, 0, 10, 2, 10, 2, 10, 2, 10, 2)
    granted = []
    for at_s in (0, -3600, -3596, -3595, 0):
        names = (redis_key(digest), account_key(key.account_id))
        reply = await link.call(clocked(START_S + at_s), names, link.epoch.encode() + b"\n", b"-\n", asked)
        granted.append(reply[:1] in b"gGhH")
    # Nothing at the step, and after the time that a bucket takes to fill it is full.
    assert granted == [True, False, False, True, True]
