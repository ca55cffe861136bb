"""Recently used keys keep working while a store is unavailable, if the operator chose that."""

import pytest
from msgspec.structs import replace
from support.builders import record, take
from support.fakes.checker_dependencies import CheckerUnderTest, FakeClock, assert_denied

from authz.core.buckets.bucket_set import BucketSet
from authz.core.check import Allow, Bucket, KeyRecord, KeyState, Lookup, Take, TakeOutcome
from authz.core.errors import DenyReason, StoreUnavailable
from authz.core.limits import KeyLimits, Limit, NamedLimit
from authz.core.policy.route import Access, Route
from authz.service.check.failure_modes import FailureMode, FailureModes, RecentKeys
from authz.service.ports import Changed


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
    recent = RecentKeys(size=1, window_s=60, now_s=clock, steady_s=clock)
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


@pytest.mark.parametrize("set_by_s", [-3600, 3600])
def test_a_wall_clock_that_is_set_neither_opens_nor_closes_the_window(set_by_s: float) -> None:
    wall, steady = FakeClock(), FakeClock()
    recent, lookup = RecentKeys(size=1, window_s=60, now_s=wall, steady_s=steady), Lookup(bytes(32), 1, None)
    recent.remember(lookup.digest, take())
    wall.now_s += set_by_s
    steady.now_s += 59
    assert recent.take(lookup, Limit(1, 1)) is not None
    steady.now_s += 2
    assert recent.take(lookup, Limit(1, 1)) is None


async def test_degrade_limits_the_keys_of_an_account_to_its_bucket() -> None:
    clock = FakeClock()
    recent, limit = RecentKeys(size=9, window_s=60, now_s=clock, steady_s=clock), Limit(120, 2)
    digests = [bytes([number]) * 32 for number in range(3)]
    for digest in digests:
        recent.remember(digest, Take(TakeOutcome.GRANTED, record(), Bucket.of(limit, 119, Limit(130, 2))))

    def admitted() -> int:
        takes = [recent.take(Lookup(digest, 1, None), limit, account=Limit(130, 2)) for digest in digests * 100]
        return sum(take is not None and take.outcome is TakeOutcome.GRANTED for take in takes)

    assert admitted() == 130
    clock.now_s += 5
    assert admitted() == 10
    # What the store said last of the account's bucket counts.
    clock.now_s += 1000
    shown = Bucket.of(Limit(130, 2), 7, limit, is_account=True)
    for digest in digests:
        recent.remember(digest, Take(TakeOutcome.GRANTED, record(), shown))
    assert admitted() == 7
    take = recent.take(Lookup(digests[0], 1, None), limit, account=Limit(130, 2))
    assert take is not None
    assert take.bucket is not None
    assert (take.bucket.limits.is_account, take.bucket.limit, take.bucket.limits.other) == (True, Limit(130, 2), limit)


def test_of_a_suspended_account_no_key_is_remembered() -> None:
    recent, limit = RecentKeys(size=9, window_s=60, now_s=FakeClock(), steady_s=FakeClock()), Limit(120, 2)
    mine, other = record(), replace(record(), account_id="acct_2")
    for digest, of in ((b"1" * 32, mine), (b"2" * 32, mine), (b"3" * 32, other)):
        recent.remember(digest, Take(TakeOutcome.GRANTED, of, Bucket.of(limit, 119)))
    recent.remember(b"1" * 32, Take(TakeOutcome.SUSPENDED, mine))
    found = [recent.take(Lookup(digest * 32, 1, None), limit) is not None for digest in (b"1", b"2", b"3")]
    assert found == [False, False, True]
    recent.remember(b"2" * 32, Take(TakeOutcome.GRANTED, mine, Bucket.of(limit, 119)))
    assert recent.take(Lookup(b"2" * 32, 1, None), limit) is not None


def test_degrade_takes_from_every_bucket_or_from_none() -> None:
    clock = FakeClock()
    recent, limit = RecentKeys(size=9, window_s=60, now_s=clock, steady_s=clock), Limit(120, 2)
    daily, search = NamedLimit("daily", Limit(50, 0.5)), NamedLimit("search", Limit(20, 1))
    limits = KeyLimits((NamedLimit("default", limit), daily), {"gold": (search,)}, 100)
    row = Route("GET", "/v1/search", Access.ANY, limits=(search,))
    of = BucketSet((NamedLimit("default", limit), daily, search), Limit(130, 2))
    digest = bytes(32)
    # What the store said last of each bucket counts.
    recent.remember(digest, Take(TakeOutcome.GRANTED, record(), of.bucket(1, 11)))
    recent.remember(digest, Take(TakeOutcome.GRANTED, record(), of.bucket(2, 3)))

    def taken(route: Route | None, cost: int = 1) -> tuple[TakeOutcome, str, float]:
        take = recent.take(Lookup(digest, cost, route), limit, account=Limit(130, 2), limits=limits)
        assert take is not None
        assert take.bucket is not None
        assert take.bucket.limits.quotas is not None
        return take.outcome, take.bucket.limits.quotas.name, take.bucket.remaining

    assert taken(row, 2) == (TakeOutcome.GRANTED, "search", 1)
    assert taken(row, 2) == (TakeOutcome.LIMITED, "search", 1)
    assert taken(None, 9) == (TakeOutcome.GRANTED, "daily", 0)
    assert taken(row)[1] == "daily"
    clock.now_s += 10
    assert taken(None, 5) == (TakeOutcome.GRANTED, "daily", 0)
    # A key of a plan has the buckets of that plan.
    gold = replace(record(), plan="gold")
    recent.remember(digest, Take(TakeOutcome.GRANTED, gold, BucketSet((search,), None).bucket(0, 4)))
    found = [recent.take(Lookup(digest, 1, row), limit, limits=limits) for _ in range(5)]
    assert [take and take.outcome for take in found] == [TakeOutcome.GRANTED] * 4 + [TakeOutcome.LIMITED]


class Told:
    """Changes as Postgres would tell them."""

    def __init__(self, *changes: Changed) -> None:
        self.changes = list(changes)

    async def changed(self) -> list[Changed]:
        told, self.changes = self.changes, []
        return told


async def test_of_a_change_during_an_outage_postgres_tells() -> None:
    recent, limit = RecentKeys(size=9, window_s=60, now_s=FakeClock(), steady_s=FakeClock()), Limit(120, 2)
    digest, lookup, old = b"1" * 32, Lookup(b"1" * 32, 1, None), record()
    granted = Take(TakeOutcome.GRANTED, old, Bucket.of(limit, 119))
    recent.remember(digest, granted)
    scoped = replace(old, revision=2, scopes=frozenset({"servers:write"}))
    await recent.follow(Told(Changed("acct_1", is_suspended=False, key=(digest, scoped))))
    take = recent.take(lookup, limit)
    assert take is not None
    assert take.record == scoped
    revoked = replace(old, revision=3, state=KeyState.REVOKED)
    await recent.follow(Told(Changed("acct_1", is_suspended=False, key=(digest, revoked))))
    assert recent.take(lookup, limit) is None
    recent.remember(digest, granted)  # an answer that was on its way
    assert recent.take(lookup, limit) is None
    recent.remember(digest, Take(TakeOutcome.GRANTED, replace(old, revision=4), Bucket.of(limit, 119)))
    assert recent.take(lookup, limit) is not None


async def test_a_suspension_holds_until_postgres_tells_of_its_end() -> None:
    recent, limit = RecentKeys(size=2, window_s=60, now_s=FakeClock(), steady_s=FakeClock()), Limit(120, 2)
    lookup, granted = Lookup(b"1" * 32, 1, None), Take(TakeOutcome.GRANTED, record(), Bucket.of(limit, 119))
    await recent.follow(Told(Changed("acct_1", is_suspended=True)))
    recent.remember(b"1" * 32, granted)
    assert recent.take(lookup, limit) is None
    await recent.follow(Told(Changed("acct_1", is_suspended=False)))
    assert recent.take(lookup, limit) is not None
    keys = [(bytes([number]) * 32, replace(record(), revision=2)) for number in range(9)]
    await recent.follow(Told(*(Changed(f"acct_{n}", is_suspended=True, key=key) for n, key in enumerate(keys))))
    assert (len(recent._suspended), len(recent._revisions)) == (2, 2)  # noqa: SLF001 -- a bound nothing else shows
