"""Floods of bad keys: each address by itself, every bad key alike, bounded memory, and good keys left alone."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed
from support.builders import FORMAT, KEY, policy, record, request
from support.fakes.checker_dependencies import FakeClock
from support.fakes.leases import LeaseCounters, MemoryLeases
from support.fakes.projection import MemoryProjection

from authz.core.check import AccountRecord, Allow, Decision, Deny, Held, KeyRecord, KeyState, Lookup, RequestAttributes
from authz.core.errors import DENIALS, DenyReason
from authz.core.keys import digest
from authz.core.limits import Limit
from authz.service.check import address_buckets, invalid_keys
from authz.service.check.checker import Checker
from authz.service.check.failure_modes import FailureModes, RecentKeys
from authz.service.check.invalid_keys import InvalidKeys
from authz.service.check.leases import Leases
from authz.service.ports import Decided

LIMIT = Limit(capacity=3, refill_per_s=0.5)
BAD = [
    DenyReason.KEY_REPEATED,
    DenyReason.KEY_MALFORMED,
    DenyReason.KEY_UNKNOWN,
    DenyReason.KEY_REVOKED,
    DenyReason.KEY_EXPIRED,
    DenyReason.KEY_DISABLED,
    DenyReason.ACCOUNT_SUSPENDED,
]


class Directory:
    """Knows one key, and counts its queries; loads wait for `gate`."""

    def __init__(self) -> None:
        self.loads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    @asynccontextmanager
    async def hold(self, next_digests: Callable[[], Sequence[bytes]]) -> AsyncIterator[Mapping[bytes, Held]]:
        digests = next_digests()
        self.loads += len(digests)
        await self.gate.wait()
        good, unknown = digest(KEY.encode()), Held(KeyRecord(KeyState.UNKNOWN))
        known = Held(record("servers:read"), AccountRecord("acct_1"))
        yield {held: known if held == good else unknown for held in digests}


class Silent:
    """Observes nothing."""

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None: ...
    def store_answered(self, store: str, latency_s: float) -> None: ...
    def store_failed(self, store: str) -> None: ...
    def degraded(self, store: str) -> None: ...


class CheckerUnderTest:
    """A checker over a projection in memory, with an address' bucket of three."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.projection = MemoryProjection()
        self.directory = Directory()
        self.checker = Checker(
            replace(policy(), invalid_keys=LIMIT),
            self.projection,
            self.directory,
            Silent(),
            leases=Leases(MemoryLeases(), LeaseCounters(), stream_class=lambda _name: None, heartbeat_s=5),
            failure=FailureModes(),
            recent=RecentKeys(size=2, window_s=60, now_s=self.clock, steady_s=self.clock),
            invalid_keys=InvalidKeys(self.clock),
        )

    async def decide(self, key: str, address: str = "203.0.113.9", target: str = "/v1/servers/s1") -> Decision:
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        attributes = changed(request("GET", target, key), source_address=lambda: address)
        self.checker.check([(1, attributes)], lambda decided: answer.set_result(decided[0][2]))
        return await answer

    async def reasons(self, keys: list[str], address: str = "203.0.113.9") -> list[DenyReason | None]:
        decisions = [await self.decide(key, address) for key in keys]
        return [decision.reason if isinstance(decision, Deny) else None for decision in decisions]


def guess() -> str:
    return FORMAT.mint(os.urandom(32))


def guesses(count: int) -> list[str]:
    return [guess() for _ in range(count)]


def from_(address: str) -> RequestAttributes:
    return changed(request(), source_address=lambda: address)


def test_everything_that_says_bad_key_is_judged_and_nothing_else() -> None:
    unauthorized = {reason for reason, denial in DENIALS.items() if denial.http == 401}
    assert unauthorized == {*BAD, DenyReason.KEY_MISSING}
    for reason in DenyReason:
        judge = InvalidKeys(FakeClock()).judge
        judged = [judge(LIMIT, from_("203.0.113.9"), Deny(reason)).reason for _ in range(4)]
        assert judged[:3] == [reason] * 3
        assert judged[3] is (DenyReason.ADDRESS_THROTTLED if reason in BAD else reason)


def test_every_bad_key_of_a_throttled_address_gets_the_same_answer_with_retry_after() -> None:
    clock = FakeClock()
    throttle = InvalidKeys(clock)
    for _ in range(3):
        throttle.judge(LIMIT, from_("203.0.113.9"), Deny(DenyReason.KEY_MALFORMED))
    assert throttle.throttled() == 1
    for reason in BAD:
        refused = throttle.judge(LIMIT, from_("203.0.113.9"), Deny(reason))
        assert (refused.reason, refused.retry_after_s, refused.detail) == (DenyReason.ADDRESS_THROTTLED, 2, reason)
    clock.now_s += 2
    assert throttle.throttled() == 0
    assert throttle.judge(LIMIT, from_("203.0.113.9"), Deny(DenyReason.KEY_UNKNOWN)).reason is DenyReason.KEY_UNKNOWN
    assert throttle.throttled() == 1


def test_addresses_are_counted_apart_and_an_ipv6_network_together() -> None:
    throttle = InvalidKeys(FakeClock())

    def reason(address: str) -> DenyReason:
        return throttle.judge(LIMIT, from_(address), Deny(DenyReason.KEY_UNKNOWN)).reason

    assert [reason(f"2001:db8::{number}") for number in range(4)][3] is DenyReason.ADDRESS_THROTTLED
    assert reason("2001:db8:0:1::1") is DenyReason.KEY_UNKNOWN
    assert reason("203.0.113.9") is DenyReason.KEY_UNKNOWN


def test_a_changed_limit_applies_to_the_next_bad_key() -> None:
    throttle = InvalidKeys(FakeClock())
    deny = Deny(DenyReason.KEY_UNKNOWN)
    assert throttle.judge(LIMIT, from_("203.0.113.9"), deny) is deny
    assert throttle.judge(Limit(1, 1), from_("203.0.113.9"), deny) is deny
    assert throttle.judge(Limit(1, 1), from_("203.0.113.9"), deny) is not deny


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_buckets, "ADDRESSES_MAX", 10)
    monkeypatch.setattr(address_buckets, "REQUESTED_MAX", 10)
    throttle = InvalidKeys(FakeClock())
    empty = Limit(1, 0.001)
    for number in range(100):
        attributes = from_(f"203.0.113.{number}")
        throttle.judge(empty, attributes, Deny(DenyReason.KEY_UNKNOWN))
        throttle.refuse_load(empty, attributes, Lookup(os.urandom(32), 1, None))
    assert throttle.throttled() == 10
    assert len(throttle._requested) == 10  # noqa: SLF001 -- a bound nothing else shows
    deny = Deny(DenyReason.KEY_UNKNOWN)
    assert throttle.judge(empty, from_("198.51.100.7"), deny) is deny
    assert throttle.judge(empty, from_("203.0.113.99"), deny) is not deny


async def test_a_flood_of_guesses_leaves_the_directory_alone() -> None:
    stack = CheckerUnderTest()
    reasons = await stack.reasons(guesses(100))
    assert reasons == [DenyReason.KEY_UNKNOWN] * 3 + [DenyReason.ADDRESS_THROTTLED] * 97
    assert stack.directory.loads == 3
    assert await stack.reasons([guess()], "198.51.100.7") == [DenyReason.KEY_UNKNOWN]


async def test_a_key_that_works_is_admitted_in_the_middle_of_a_flood_and_pays_nothing() -> None:
    stack = CheckerUnderTest()
    await stack.projection.put(digest(KEY.encode()), record("servers:read"))
    await stack.projection.put_account(AccountRecord("acct_1"))
    mixed = [key for bad in guesses(50) for key in (bad, KEY)]
    reasons = await stack.reasons(mixed)
    assert reasons[1::2] == [None] * 50
    assert stack.directory.loads == 3


async def test_a_working_key_lost_from_the_projection_is_loaded_again_on_demand() -> None:
    stack = CheckerUnderTest()
    await stack.reasons(guesses(10))
    first = await stack.decide(KEY)
    assert isinstance(first, Deny)
    assert (first.reason, first.retry_after_s) == (DenyReason.ADDRESS_THROTTLED, 2)
    await stack.reasons(guesses(100))
    assert isinstance(await stack.decide(KEY), Allow)
    assert stack.directory.loads == 4


async def test_guesses_sent_twice_get_a_few_loads_at_once_and_leave_room_for_others() -> None:
    stack = CheckerUnderTest()
    await stack.reasons(guesses(3))
    tries = guesses(20)
    await stack.reasons(tries)
    stack.directory.gate.clear()
    again = [asyncio.create_task(stack.decide(key)) for key in tries]
    other = asyncio.create_task(stack.decide(KEY, "198.51.100.7"))
    while stack.directory.loads < 3 + invalid_keys.SUSPECT_LOADS_OF_ADDRESS_MAX + 1:
        await asyncio.sleep(0)
    stack.directory.gate.set()
    await asyncio.gather(*again)
    assert isinstance(await other, Allow)
    assert stack.directory.loads == 3 + invalid_keys.SUSPECT_LOADS_OF_ADDRESS_MAX + 1
    await stack.reasons(tries[-4:])  # those loads have ended, so there is room for others
    assert stack.directory.loads == 3 + 2 * invalid_keys.SUSPECT_LOADS_OF_ADDRESS_MAX + 1


async def test_a_request_without_a_key_is_not_a_guess() -> None:
    stack = CheckerUnderTest()
    answers: list[Decided] = []
    stack.checker.check([(number, request("GET", "/v1/servers/s1")) for number in range(10)], answers.extend)
    assert {decision.reason for _, _, decision in answers if isinstance(decision, Deny)} == {DenyReason.KEY_MISSING}
    assert await stack.reasons([guess()]) == [DenyReason.KEY_UNKNOWN]


async def test_a_shadow_route_lets_pass_what_the_throttle_would_refuse() -> None:
    stack = CheckerUnderTest()
    decisions = [await stack.decide(guess(), target="/v1/shadowed") for _ in range(4)]
    marks = [decision.would_deny for decision in decisions if isinstance(decision, Allow)]
    assert marks == [DenyReason.KEY_UNKNOWN] * 3 + [DenyReason.ADDRESS_THROTTLED]
