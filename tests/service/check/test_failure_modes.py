"""Recently used keys keep working while a store is unavailable, if the operator chose that."""

from support.builders import record, take
from support.fakes.checker_dependencies import CheckerUnderTest, FakeClock, assert_denied

from authz.core.check import Allow, KeyRecord, KeyState, Lookup, Take, TakeOutcome
from authz.core.errors import DenyReason, StoreUnavailable
from authz.core.limits import Limit
from authz.service.check.failure_modes import FailureMode, FailureModes, RecentKeys


async def test_degrade_admits_keys_seen_lately_and_nobody_else() -> None:
    failure = StoreUnavailable("redis", "closed")
    stack = CheckerUnderTest(take("servers:read"), failure, failure, failure=FailureModes(redis=FailureMode.DEGRADE))
    assert isinstance(await stack.decide(), Allow)
    assert isinstance(await stack.decide(), Allow)
    assert stack.observed.degrades == ["redis"]
    stack.clock.now_s += 61
    assert_denied(await stack.decide(), DenyReason.STORE_UNAVAILABLE)


async def test_degrade_of_one_store_says_nothing_about_the_other() -> None:
    failure = StoreUnavailable("postgres", "closed")
    stack = CheckerUnderTest(take("servers:read"), None, found=failure, failure=FailureModes(redis=FailureMode.DEGRADE))
    assert isinstance(await stack.decide(), Allow)
    assert_denied(await stack.decide(), DenyReason.STORE_UNAVAILABLE)


async def test_degrade_limits_each_key_to_its_bucket() -> None:
    failure = StoreUnavailable("redis", "closed")
    last = take("servers:read", remaining=1)
    stack = CheckerUnderTest(last, failure, failure, failure=FailureModes(redis=FailureMode.DEGRADE))
    decisions = [await stack.decide() for _ in range(3)]
    assert [isinstance(decision, Allow) for decision in decisions] == [True, True, False]
    assert_denied(decisions[2], DenyReason.RATE_LIMITED)


async def test_degrade_forgets_a_key_once_it_was_refused() -> None:
    failure = StoreUnavailable("redis", "closed")
    revoked = Take(TakeOutcome.REVOKED, record(state=KeyState.REVOKED))
    stack = CheckerUnderTest(take("servers:read"), revoked, failure, failure=FailureModes(redis=FailureMode.DEGRADE))
    assert isinstance(await stack.decide(), Allow)
    assert_denied(await stack.decide(), DenyReason.KEY_REVOKED)
    assert_denied(await stack.decide(), DenyReason.STORE_UNAVAILABLE)


def test_recent_keys_are_bounded_and_expire() -> None:
    clock = FakeClock()
    recent = RecentKeys(size=1, window_s=60, now_s=clock)
    expiring = Take(
        TakeOutcome.GRANTED,
        KeyRecord(KeyState.ACTIVE, 1, "key_1", "acct_1", frozenset(), None, int(clock.now_s * 1000) + 1),
        take().bucket,
    )
    first, second = (Lookup(bytes([number]) * 32, 1, None) for number in (1, 2))
    recent.remember(first.digest, expiring)
    clock.now_s += 1
    expired = recent.take(first, Limit(1, 1))
    assert expired is not None
    assert expired.outcome is TakeOutcome.EXPIRED
    recent.remember(second.digest, take())
    assert recent.take(first, Limit(1, 1)) is None
