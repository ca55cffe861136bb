"""The reference bucket: published vectors, and the bound that no window may exceed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bucket_vectors import FIVE, VECTORS

from authz.core.limits import (
    CAPACITY_MAX,
    FULL_AFTER_S_MAX,
    REFILL_PER_S_MAX,
    REFILL_PER_S_MIN,
    Limit,
    TokenBucket,
    full_after_s,
    limit_fault,
    retry_after_s,
    take_all,
    take_both,
)


def test_the_published_vectors_hold() -> None:
    bucket = TokenBucket(FIVE, 5, 0)
    for now_s, cost, left, refused in VECTORS:
        granted, bucket = bucket.take(cost, now_s)
        assert (int(bucket.remaining + 1e-9), not granted) == (left, refused), now_s


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 6)), min_size=1, max_size=60),
    st.integers(1, 20),
    st.floats(0.1, 10),
)
def test_no_window_admits_more_than_capacity_and_refill(
    requests: list[tuple[float, int]], capacity: int, refill_per_s: float
) -> None:
    bucket, now_s = TokenBucket(Limit(capacity, refill_per_s), capacity, 0), 0.0
    taken: list[tuple[float, int]] = []
    for delay_s, cost in requests:
        now_s += delay_s
        granted, bucket = bucket.take(cost, now_s)
        assert 0 <= bucket.remaining <= capacity
        if granted:
            taken.append((now_s, cost))
    for start, (since_s, _) in enumerate(taken):
        total = 0
        for until_s, cost in taken[start:]:
            total += cost
            assert total <= capacity + refill_per_s * (until_s - since_s) + 1e-6


def test_a_refused_take_costs_nothing_and_a_clock_that_went_back_gives_nothing() -> None:
    _, bucket = TokenBucket(FIVE, 1, 10).take(2, 10)
    assert bucket.remaining == 1
    _, bucket = bucket.take(0, 9.5)
    assert (bucket.remaining, bucket.at_s) == (1, 10)


@given(st.floats(1.001, 1e6), st.integers(0, 5))
def test_a_clock_that_is_set_back_far_locks_nobody_out_and_gives_nothing(step_s: float, left: int) -> None:
    granted, bucket = TokenBucket(FIVE, left, 2e6).take(left + 1, 2e6 - step_s)
    assert (granted, bucket.remaining) == (False, left)
    # From the new time on it fills as ever.
    granted, bucket = bucket.take(5, 2e6 - step_s + 5)
    assert granted
    assert bucket.remaining == pytest.approx(0, abs=1e-6)


BUCKETS = st.builds(
    lambda capacity, refill_per_s, share: TokenBucket(Limit(capacity, refill_per_s), capacity * share, 0),
    st.integers(1, 50),
    st.sampled_from([0.1, 0.5, 1, 2, 33.25]),
    st.floats(0, 1),
)


@given(BUCKETS, BUCKETS, st.integers(0, 60), st.floats(0, 100))
def test_both_buckets_give_or_neither(key: TokenBucket, account: TokenBucket, cost: int, now_s: float) -> None:
    granted, key_after, account_after, is_account = take_both(key, account, cost, now_s)
    full = key.filled(now_s), account.filled(now_s)
    assert granted is all(bucket.remaining >= cost for bucket in full)
    taken = cost if granted else 0
    assert key_after.remaining == full[0].remaining - taken
    assert account_after.remaining == full[1].remaining - taken
    shown, other = (account_after, key_after) if is_account else (key_after, account_after)
    if granted:
        assert shown.remaining <= other.remaining
    elif cost <= min(key.limit.capacity, account.limit.capacity):
        # Whoever waits for the shown one finds the tokens in both.
        wait_s = retry_after_s(shown.limit, shown.remaining, cost)
        assert take_both(key_after, account_after, cost, now_s + wait_s + 1e-6)[0]


def test_a_smaller_limit_applies_at_once() -> None:
    assert TokenBucket(FIVE, 5, 0).under(Limit(2, 1)).remaining == 2
    assert TokenBucket(FIVE, 1, 0).under(Limit(9, 1)).remaining == 1


@pytest.mark.parametrize(
    ("remaining", "cost", "expected"), [(0, 1, 1), (0.2, 1, 1), (0, 4, 2), (0.9, 5, 3), (5, 1, 1), (0.999, 1, 1)]
)
def test_the_wait_is_whole_seconds_and_at_least_one(remaining: float, cost: int, expected: int) -> None:
    assert retry_after_s(Limit(120, 2), remaining, cost) == expected


def test_a_bucket_is_full_after_its_missing_tokens_are_refilled() -> None:
    assert full_after_s(Limit(120, 2), 120) == 0
    assert full_after_s(Limit(120, 2), 118.5) == 1
    assert full_after_s(Limit(120, 2), 0) == 60


@pytest.mark.parametrize(
    ("capacity", "refill_per_s"),
    [
        (0, 1),
        (-1, 1),
        (10**10, 1),
        (1, 0),
        (1, 5e-324),
        (1, 1e-300),
        (1, 1e308),
        (1, math.inf),
        (1, math.nan),
        (10**9, 0.1),
    ],
)
def test_a_limit_beyond_its_bounds_is_a_fault(capacity: int, refill_per_s: float) -> None:
    assert limit_fault(Limit(capacity, refill_per_s)) is not None
    assert limit_fault(Limit(10**9, 0.1)) is not None


@given(st.integers(1, CAPACITY_MAX), st.floats(REFILL_PER_S_MIN, REFILL_PER_S_MAX))
def test_headers_of_a_sound_limit_hold_short_numbers(capacity: int, refill_per_s: float) -> None:
    limit = Limit(capacity, refill_per_s)
    if limit_fault(limit) is None:
        assert full_after_s(limit, 0) <= FULL_AFTER_S_MAX + 1
        assert retry_after_s(limit, 0, capacity) <= FULL_AFTER_S_MAX + 1


@given(st.lists(BUCKETS, min_size=1, max_size=8), st.integers(0, 60), st.floats(0, 100))
def test_all_buckets_give_or_none(buckets: list[TokenBucket], cost: int, now_s: float) -> None:
    granted, after, shown = take_all(buckets, cost, now_s)
    full = [bucket.filled(now_s) for bucket in buckets]
    assert granted is all(bucket.remaining >= cost for bucket in full)
    taken = cost if granted else 0
    assert [bucket.remaining for bucket in after] == [bucket.remaining - taken for bucket in full]
    if granted:
        assert after[shown].remaining == min(bucket.remaining for bucket in after)
    elif cost <= min(bucket.limit.capacity for bucket in buckets):
        # Whoever waits for the shown one finds the tokens in all.
        wait_s = retry_after_s(after[shown].limit, after[shown].remaining, cost)
        assert take_all(after, cost, now_s + wait_s + 1e-6)[0]
    if len(buckets) == 2:
        both, *pair, is_account = take_both(buckets[0], buckets[1], cost, now_s)
        assert (both, tuple(pair)) == (granted, after)
        assert bool(shown) is is_account
