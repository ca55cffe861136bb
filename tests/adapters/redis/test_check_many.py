"""Checks that share a script: the same as one after the other, each with its own outcome."""

import asyncio
import os
import struct
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.contracts.key_lookups import DEFAULT, account, put, record, take_many, take_one

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.records import CHECK, CHECK_MANY, account_header, account_key, header_of, redis_key
from authz.adapters.redis.shared_scripts import MANY_MAX, divided
from authz.core.check import BucketLimits, KeyRecord, KeyState, Lookup, Take, TakeOutcome
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit
from authz.service.ports import TakeReply

START_S = 1_700_000_000.0
ACCOUNT_LIMIT = Limit(40, 4)
LIST = Script(b"redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'x')")
VALUE = Script(b"return redis.call('GET', KEYS[1])")


def clocked(script: Script, now_s: float) -> Script:
    """The script with its clock set."""
    source = script.source.decode()
    assert source.count("call('TIME')") == 1
    seconds, micros = divmod(round(now_s * 1e6), 1_000_000)
    return Script(source.replace("call('TIME')", f"{{{seconds}, {micros}}}").encode())


class Keys:
    """Six keys of three accounts in Redis, in two copies: one for each way to check them."""

    def __init__(self, link: RedisLink, limit: Limit, expires_at_ms: int) -> None:
        self._link = link
        self.digests = [[os.urandom(32) for _ in range(6)] for _ in range(2)]
        self.accounts = [[f"acct_{os.urandom(8).hex()}" for _ in range(3)] for _ in range(2)]
        self.limits = [limit, Limit(25, 2), limit, limit, Limit(7, 0.5), limit]
        self.expiries_ms = [0, 0, expires_at_ms, 0, 0, 0]

    async def fill(self) -> None:
        keys = RedisKeys(self._link, negative_ttl_s=5)
        for copy in range(2):
            for number, digest in enumerate(self.digests[copy]):
                await keys.put(digest, self._record(copy, number))
            for account_id in self.accounts[copy]:
                await keys.put_account(account(account_id))

    def words(self, copy: int, number: int, cost: int) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes, bytes]]:
        """The KEYS and the ARGV of one check."""
        key, limit = self._record(copy, number), self.limits[number]
        numbers = (limit.capacity, limit.refill_per_s, ACCOUNT_LIMIT.capacity, ACCOUNT_LIMIT.refill_per_s)
        headers = header_of(self._link.epoch, key), account_header(self._link.epoch, account(key.account_id))
        asked = struct.pack("<10d", cost, self.expiries_ms[number], *numbers, 1, 1, 1, 1)
        names = redis_key(self.digests[copy][number]), account_key(key.account_id)
        return names, (headers[0].encode() + b"\n", headers[1].encode() + b"\n", asked)

    async def strings(self, copy: int) -> list[bytes]:
        """The buckets of all keys and accounts."""
        names = [redis_key(digest) for digest in self.digests[copy]] + [account_key(it) for it in self.accounts[copy]]
        return [(await self._link.call(VALUE, name))[:16] for name in names]

    def _record(self, copy: int, number: int) -> KeyRecord:
        return replace(
            record(),
            account_id=self.accounts[copy][number % 3],
            limit=self.limits[number],
            expires_at_ms=self.expiries_ms[number],
        )


CHECKS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(Limit, st.integers(1, 50), st.sampled_from([0.5, 2, 33.25])),
    st.lists(st.tuples(st.floats(-5, 40).map(lambda delay: round(delay, 3)), CHECKS), min_size=1, max_size=4),
)
async def test_checks_in_one_script_are_the_same_checks_one_after_the_other(
    link: RedisLink, limit: Limit, batches: list[tuple[float, list[tuple[int, int]]]]
) -> None:
    keys, now_s = Keys(link, limit, int((START_S + 20) * 1000)), START_S
    await keys.fill()
    for delay_s, checks in batches:
        now_s += delay_s
        # In the order in which the script sees them: those with the same arguments together.
        in_order = sorted(checks)
        singly = []
        for number, cost in in_order:
            names, arguments = keys.words(0, number, cost)
            singly.append(await link.call(clocked(CHECK, now_s), names, *arguments))
        names_of_all: list[bytes] = []
        groups: list[bytes] = [b"0"]  # none of several checks
        for number, cost in in_order:
            names, (header, account_line, asked) = keys.words(1, number, cost)
            names_of_all += names
            groups += [asked[:32] + header, asked[32:48] + account_line]
        together = await link.call(clocked(CHECK_MANY, now_s), tuple(names_of_all), *groups)
        assert [together[at : at + 17] for at in range(0, len(together), 17)] == [
            reply if len(reply) == 17 else reply + bytes(16) for reply in singly
        ]
        assert await keys.strings(0) == await keys.strings(1)


async def test_each_check_of_a_batch_has_its_own_outcome(link: RedisLink) -> None:
    keys = RedisKeys(link, negative_ttl_s=5)
    digests = [os.urandom(32) for _ in range(3 * MANY_MAX)]
    for number, digest in enumerate(digests):
        # A third of them with a limit of its own, and so with arguments of its own.
        own = Limit(10 + number, 1) if number % 3 == 0 else None
        await put(keys, digest, replace(record(), key_id=f"key_{number}", limit=own))
        await take_one(keys, digest)
    await put(keys, digests[1], replace(record(KeyState.REVOKED, 2), key_id="key_1"))
    await put(keys, digests[2], replace(record(KeyState.ACTIVE, 2), key_id="key_2", scopes=frozenset({"new:scope"})))
    await link.call(
        Script(b"redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'x')"), redis_key(digests[3])
    )
    await link.call(Script(b"return redis.call('DEL', KEYS[1])"), redis_key(digests[4]))
    await link.call(Script(b"return redis.call('SET', KEYS[1], 'x')"), redis_key(digests[6]))
    unknown = os.urandom(32)
    replies = await take_many(keys, [*digests, unknown])
    assert outcome(replies[1]) is TakeOutcome.REVOKED
    assert isinstance(replies[2], Take)
    assert replies[2].record.scopes == {"new:scope"}
    assert isinstance(replies[3], StoreUnavailable)
    assert (replies[4], replies[6], replies[-1]) == (None, None, None)
    others = [number for number in range(len(digests)) if number not in {1, 2, 3, 4, 6}]
    for number in others:
        reply = replies[number]
        assert isinstance(reply, Take)
        assert (reply.outcome, reply.record.key_id) == (TakeOutcome.GRANTED, f"key_{number}")
        assert reply.bucket is not None
        assert reply.bucket.limit == (Limit(10 + number, 1) if number % 3 == 0 else DEFAULT)
        assert reply.bucket.remaining == pytest.approx(reply.bucket.limit.capacity - 2, abs=1)


async def test_the_same_key_often_in_one_batch_is_charged_each_time(link: RedisLink) -> None:
    keys, digest = RedisKeys(link, negative_ttl_s=5), os.urandom(32)
    await put(keys, digest, replace(record(), limit=Limit(50, 0.001)))
    await take_one(keys, digest)
    replies = await take_many(keys, [digest] * 120)
    assert [outcome(reply) for reply in replies] == [TakeOutcome.GRANTED] * 49 + [TakeOutcome.LIMITED] * 71


async def test_a_batch_survives_the_loss_of_the_scripts(link: RedisLink) -> None:
    keys, digests = RedisKeys(link, negative_ttl_s=5), [os.urandom(32) for _ in range(5)]
    for digest in digests:
        await put(keys, digest, record())
        await take_one(keys, digest)
    await link.ask("SCRIPT", "FLUSH")
    assert {outcome(reply) for reply in await take_many(keys, digests)} == {TakeOutcome.GRANTED}


async def test_a_key_that_ended_is_asked_about_once_per_check(link: RedisLink) -> None:
    keys, digests = RedisKeys(link, negative_ttl_s=5), [os.urandom(32) for _ in range(3)]
    for digest in digests:
        await put(keys, digest, record())
        await take_one(keys, digest)
    await put(keys, digests[0], record(KeyState.REVOKED, 2))
    assert outcome((await take_many(keys, digests))[0]) is TakeOutcome.REVOKED
    before = await calls(link)
    assert outcome((await take_many(keys, digests))[0]) is TakeOutcome.REVOKED
    assert await calls(link) - before == 2  # one for two cached keys, one for the key that ended


Pair = tuple[bytes, bytes]


@pytest.mark.parametrize(
    ("sizes", "scripts"),
    [
        ({}, []),
        ({b"one": 1}, [1]),
        ({b"one": 64}, [64]),
        ({b"one": 150, b"two": 1, b"three": 49}, [64, 64, 22, 50]),
        ({b"%d" % number: 1 for number in range(150)}, [64, 64, 22]),
        ({b"%d" % number: 1 + number % 3 for number in range(90)}, [62, 63, 55]),
    ],
)
def test_checks_are_divided_into_scripts_of_bounded_size(sizes: dict[bytes, int], scripts: list[int]) -> None:
    once: dict[Pair, int] = {}
    again: dict[Pair, list[int]] = {}
    asked: dict[int, Pair] = {}
    for name, size in sizes.items():
        pair = name, name + b" account"
        first, *others = range(len(asked), len(asked) + size)
        once[pair] = first
        if others:
            again[pair] = others
        asked |= dict.fromkeys((first, *others), pair)
    found: dict[int, Pair] = {}
    sent = list(divided(once, again))
    for indices, words in sent:
        numbers, several = iter(indices), int(words[0].split(b"\r\n")[1])
        rest = iter(words[1:])
        for of_key, of_account in zip(rest, rest, strict=False):
            count = int(next(rest).split(b"\r\n")[1]) if several > 0 else 1
            several -= 1
            found |= {next(numbers): (of_key, of_account) for _ in range(count)}
        assert next(numbers, None) is None
    assert found == asked
    assert [len(indices) for indices, _ in sent] == scripts


def outcome(reply: Take | StoreUnavailable | None) -> TakeOutcome:
    assert isinstance(reply, Take)
    return reply.outcome


async def calls(link: RedisLink) -> int:
    """How many scripts the server has run."""
    stats = (await link.ask("INFO", "commandstats")).decode()
    return sum(int(number) for number in _counts(stats))


def _counts(stats: str) -> Iterator[str]:
    for line in stats.splitlines():
        if line.startswith("cmdstat_evalsha:"):
            yield line.partition("calls=")[2].partition(",")[0]


@pytest.mark.parametrize("shared", [None, Limit(100, 0.001), Limit(5, 0.001)], ids=["none", "fuller", "emptier"])
@pytest.mark.parametrize("checks", [1, 2])
async def test_checks_of_a_key_share_their_limits(link: RedisLink, shared: Limit | None, checks: int) -> None:
    """Because response headers are cached by them."""
    keys, digest, account_id = RedisKeys(link, negative_ttl_s=5), os.urandom(32), f"acct_{os.urandom(8).hex()}"

    async def limits() -> list[BucketLimits]:
        done: asyncio.Future[Sequence[TakeReply]] = asyncio.get_running_loop().create_future()
        lookups = [Lookup(digest, 1, None)] * checks
        keys.take(lookups, DEFAULT, lambda _places, replies: done.set_result(replies), account=shared)
        return [reply.bucket.limits for reply in await done if isinstance(reply, Take) and reply.bucket is not None]

    of = replace(record(limit=Limit(10, 0.001)), account_id=account_id)
    await put(keys, digest, of)
    await limits()
    found = await limits() + await limits()
    assert len(found) == 2 * checks
    assert all(each is found[0] for each in found)
    assert found[0].is_account is (shared == Limit(5, 0.001))
    await put(keys, digest, replace(of, revision=2, limit=Limit(9, 0.001)))
    for each in await limits() + await limits():
        assert Limit(9, 0.001) in {each.limit, each.other}
