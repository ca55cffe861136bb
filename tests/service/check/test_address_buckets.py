"""Bounded memory for source addresses: no burst frees a throttled address, throttles another, or costs much."""

import os
import random
import time

import pytest

from authz.core.limits import Limit, TokenBucket
from authz.service.check import address_buckets
from authz.service.check.address_buckets import AddressBuckets, RequestedKeys

LIMIT = Limit(capacity=1000, refill_per_s=10)


def take(buckets: AddressBuckets, address: str, now_s: float, cost: int = 1, limit: Limit = LIMIT) -> bool:
    granted, bucket = buckets.bucket(limit, address, now_s).take(cost, now_s)
    buckets.keep(address, bucket)
    return granted


@pytest.mark.parametrize("each", [1, 3, 50])
def test_a_throttled_address_stays_throttled_whatever_others_send(each: int) -> None:
    buckets = AddressBuckets()
    assert take(buckets, "flooder", 0, 1000)
    for number in range(25_000):
        assert take(buckets, f"other-{number}", number / 1000, each)
    assert buckets.bucket(LIMIT, "flooder", 25).take(0, 25)[1].remaining == pytest.approx(250)
    assert not take(buckets, "flooder", 25, 300)


def test_throttled_addresses_keep_their_state_against_a_burst_of_many_more() -> None:
    buckets = AddressBuckets()
    for number in range(5_000):
        take(buckets, f"flooder-{number}", 0, 1000)
    for number in range(30_000):
        assert take(buckets, f"other-{number}", 0.1)
    assert buckets.throttled(0) == 5_000
    assert not any(take(buckets, f"flooder-{number}", 0.05) for number in range(5_000))


def test_an_address_is_never_throttled_for_what_others_sent() -> None:
    buckets, chance = AddressBuckets(), random.Random(1)  # noqa: S311 -- no secret
    for number in range(40_000):
        take(buckets, f"flooder-{chance.randrange(30_000)}", 0, 1000)
        if number % 100 == 0:
            assert take(buckets, f"other-{number}", 0)


def test_the_number_of_addresses_is_bounded_and_a_burst_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_buckets, "ADDRESSES_MAX", 1_000)
    buckets, worst_s = AddressBuckets(), 0.0
    for number in range(20_000):
        started_s = time.process_time()
        take(buckets, f"flooder-{number % 1_000}" if number % 2 else f"other-{number}", 0, 1 + number % 7)
        worst_s = max(worst_s, time.process_time() - started_s)
    assert len(buckets._buckets) == len(buckets._full_at) == 1_000  # noqa: SLF001 -- what is bounded
    assert {address for _, address in buckets._full_at} == buckets._buckets.keys()  # noqa: SLF001
    assert worst_s < 0.01


def test_a_changed_limit_keeps_the_bound() -> None:
    buckets = AddressBuckets()
    for number in range(12_000):
        limit = Limit(1 + number % 5, 0.001 + number % 3)
        take(buckets, f"{number % 11_000}", number, limit=limit)
    assert len(buckets._buckets) <= address_buckets.ADDRESSES_MAX  # noqa: SLF001 -- what is bounded
    assert isinstance(buckets.bucket(LIMIT, "10", 0), TokenBucket)


def test_the_keys_of_one_address_do_not_replace_those_of_another() -> None:
    keys, digest = RequestedKeys(), os.urandom(32)
    keys.add("quiet", digest)
    for _ in range(50_000):
        keys.add("flooder", os.urandom(32))
    assert keys.has("quiet", digest)
    assert not keys.has("flooder", digest)
    assert len(keys) <= address_buckets.REQUESTED_OF_ADDRESS_MAX + 1


def test_the_remembered_keys_are_bounded_over_all_addresses() -> None:
    keys = RequestedKeys()
    for number in range(40_000):
        keys.add(f"address-{number % 30_000}", os.urandom(32))
    assert len(keys) == address_buckets.REQUESTED_MAX
    kept = sum(len(own) for own in keys._of.values())  # noqa: SLF001 -- what is bounded
    assert kept == len(keys)
