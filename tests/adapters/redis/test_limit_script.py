"""The script of several buckets in the real Redis, on a clock that tests move, compared with the reference model."""

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
from authz.adapters.redis.limit_buckets import applied
from authz.adapters.redis.records import LIMITS, account_header, account_key, further_key, header_of, redis_key
from authz.core.buckets.bucket_set import BucketSet
from authz.core.check import KeyRecord
from authz.core.limits import ACCOUNT_ITEM, KeyLimits, Limit, NamedLimit, TokenBucket, take_all

START_S = 1_700_000_000.0
ACCOUNT = Limit(40, 4)
TTL = Script(b"return redis.call('PTTL', KEYS[1])")
FIELDS = Script(b"return redis.call('HGETALL', KEYS[1])")
SINCE = Script(b"return redis.call('SET', KEYS[1], ARGV[1])")
LIMIT = st.builds(Limit, st.integers(1, 50), st.sampled_from([0.1, 0.5, 1, 2, 33.25]))
# Checks of one script: the number of the key, which rows' limits, and the cost.
CHECKS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=8)
STEPS = st.lists(st.tuples(st.floats(-30, 40).map(lambda delay: round(delay, 3)), CHECKS), min_size=1, max_size=6)


def clocked(script: Script, now_s: float) -> Script:
    """The script with its clock set."""
    source = script.source.decode()
    assert source.count("call('TIME')") == 1
    seconds, micros = divmod(round(now_s * 1e6), 1_000_000)
    return Script(source.replace("call('TIME')", f"{{{seconds}, {micros}}}").encode())


class Subject:
    """Three keys of two accounts in Redis, and the same buckets in the model."""

    def __init__(self, link: RedisLink, buckets: list[Limit], *, shared: Limit | None) -> None:
        self._link = link
        names = [NamedLimit(f"n{number}", limit) for number, limit in enumerate(buckets)]
        self._limits = KeyLimits((NamedLimit("default", buckets[0]), names[1]), {}, 1e6)
        self._rows = [(), (names[2],), (names[2], names[3])]
        self._shared = shared
        self.digests = [os.urandom(32) for _ in range(3)]
        accounts = [f"acct_{os.urandom(8).hex()}" for _ in range(2)]
        self.records = [replace(record(), account_id=accounts[number % 2]) for number in range(3)]
        self._model: dict[tuple[object, str], TokenBucket] = {}

    async def fill(self) -> None:
        keys = RedisKeys(self._link, negative_ttl_s=5)
        for digest, kept in zip(self.digests, self.records, strict=True):
            await keys.put_account(account(kept.account_id))
            await keys.put(digest, kept)

    async def take(self, checks: list[tuple[int, int, int]], now_s: float) -> list[tuple[str, int, float]]:
        """Take in one script; returns the outcome, the bucket shown (from 0) and its tokens of each check."""
        keys: list[bytes] = []
        words: list[bytes] = []
        for number, row, cost in checks:
            key = self.records[number]
            keys += (redis_key(self.digests[number]), account_key(key.account_id), further_key(self.digests[number]))
            words += (*self._words(key, row, cost), b"1")
        reply = await self._link.call(clocked(LIMITS, now_s), tuple(keys), *words)
        found = struct.iter_unpack("<cBdd", reply)
        return [(letter.decode().lower(), index - 1, tokens) for letter, index, tokens, _ in found]

    def _words(self, key: KeyRecord, row: int, cost: int) -> tuple[bytes, ...]:
        headers = header_of(self._link.epoch, key), account_header(self._link.epoch, account(key.account_id))
        encoded = headers[0].encode() + b"\n", headers[1].encode() + b"\n"
        return applied(self._limits, key, self._rows[row], cost, headers=encoded, account=self._shared).words

    def expected(self, number: int, row: int, cost: int, now_s: float) -> tuple[str, int, list[TokenBucket]]:
        """Take in the model; returns the outcome, the bucket to show, and all of them."""
        key = self.records[number]
        listed = BucketSet(self._limits.of("", None, self._rows[row]), self._shared).listed
        names = [(key.account_id if it.name == ACCOUNT_ITEM else number, it.name) for it in listed]
        buckets = [
            self._model.get(name) or TokenBucket(it.limit, it.limit.capacity, now_s)
            for name, it in zip(names, listed, strict=True)
        ]
        granted, after, shown = take_all(buckets, cost, now_s)
        self._model |= dict(zip(names, after, strict=True))
        return ("g" if granted else "l"), shown, list(after)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(buckets=st.lists(LIMIT, min_size=4, max_size=4), is_shared=st.booleans(), steps=STEPS)
async def test_the_script_is_the_reference_of_several_buckets(
    link: RedisLink, buckets: list[Limit], *, is_shared: bool, steps: list[tuple[float, list[tuple[int, int, int]]]]
) -> None:
    subject, now_s = Subject(link, buckets, shared=ACCOUNT if is_shared else None), START_S
    await subject.fill()
    for delay_s, checks in steps:
        now_s += delay_s
        for check, (letter, index, tokens) in zip(checks, await subject.take(checks, now_s), strict=True):
            expected, shown, after = subject.expected(*check, now_s)
            assert letter == expected
            assert tokens == pytest.approx(after[index].remaining, abs=1e-4)
            if index != shown:  # only where two are as good: rounding decides
                assert _rank(after[index], check[2], expected) == pytest.approx(
                    _rank(after[shown], check[2], expected), abs=1e-3
                )


def _rank(bucket: TokenBucket, cost: int, outcome: str) -> float:
    return bucket.remaining if outcome == "g" else (cost - bucket.remaining) / bucket.limit.refill_per_s


SLOW = [Limit(50, 0.001), Limit(5, 0.001), Limit(3, 0.001), Limit(9, 1)]


async def test_a_refusal_by_one_bucket_takes_from_none(link: RedisLink) -> None:
    subject = Subject(link, SLOW, shared=ACCOUNT)
    await subject.fill()
    assert [it[0] for it in await subject.take([(0, 1, 1)] * 5, START_S)] == list("ggg") + list("ll")
    # Two of five are left in the bucket of every row, because the two refusals took nothing.
    assert [it[0] for it in await subject.take([(0, 0, 1)] * 3, START_S)] == list("ggl")
    assert (await subject.take([(0, 1, 1)], START_S))[0][:2] == ("l", 1)


async def test_a_clock_that_is_set_back_by_an_hour_empties_and_locks_no_bucket(link: RedisLink) -> None:
    limits = [Limit(10, 2)] * 4
    subject = Subject(link, limits, shared=None)
    await subject.fill()
    found = [(await subject.take([(0, 2, 10)], START_S + at_s))[0][0] for at_s in (0, -3600, -3596, -3595, 0)]
    assert found == ["g", "l", "l", "g", "g"]


async def test_further_buckets_expire_when_they_are_full_and_hold_their_epoch(link: RedisLink) -> None:
    subject = Subject(link, SLOW, shared=None)
    await subject.fill()
    await subject.take([(0, 2, 1)], START_S)
    name = further_key(subject.digests[0])
    fields = await link.call(FIELDS, name)
    assert set(fields[::2]) == {b"n1", b"n2", b"n3"}
    assert {value[16:] for value in fields[1::2]} == {link.epoch.encode()}
    assert 1e9 < await link.call(TTL, name) <= 1e9 + 60_000


@pytest.mark.parametrize("is_of_epoch", [True, False])
async def test_lost_buckets_hold_what_was_refilled_since_the_loss(own_link: RedisLink, *, is_of_epoch: bool) -> None:
    epoch = own_link.epoch if is_of_epoch else "another"
    await own_link.call(SINCE, b"l:since", f"{epoch} {round((START_S - 2) * 1e6)}".encode())
    subject = Subject(own_link, [Limit(50, 1), Limit(20, 1), Limit(20, 2), Limit(20, 3)], shared=None)
    await subject.fill()
    found = await subject.take([(0, 2, 1), (0, 2, 1), (0, 2, 1)], START_S)
    assert [it[0] for it in found] == (list("ggl") if is_of_epoch else list("ggg"))
    # A clock that is set back before the loss gives nothing, and then refills as ever.
    if is_of_epoch:
        assert [(await subject.take([(1, 0, 1)], START_S + at_s))[0][0] for at_s in (-900, -898)] == ["l", "g"]


async def test_what_is_no_hash_or_no_record_concerns_its_own_key_only(own_link: RedisLink) -> None:
    subject = Subject(own_link, SLOW, shared=ACCOUNT)
    await subject.fill()
    await own_link.call(SINCE, further_key(subject.digests[1]), b"x")
    await own_link.call(SINCE, redis_key(subject.digests[2]), b"x")
    assert [it[0] for it in await subject.take([(0, 1, 1), (1, 1, 1), (2, 1, 1)], START_S)] == ["g", "x", "x"]
