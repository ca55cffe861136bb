"""The contract of every lease store: the one in memory for tests, and Redis in all its forms."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.builders import LOGS
from support.contracts.key_projections import connected_store
from support.contracts.lease_stores import RedisSubject, Subject
from support.fakes.leases import BEGIN_S, MemoryLeases
from support.servers.redis_cluster import Cluster
from support.servers.redis_sentinel import Sentinels

from authz.adapters.redis.connection.link import RedisLink
from authz.core.check import KeyState
from authz.core.streams import AcquireOutcome, Lease, OpenStream, Renewal, RenewOutcome, StreamClass

PENDING_S = 15
GRANTED, KEY_FULL, ACCOUNT_FULL = AcquireOutcome.GRANTED, AcquireOutcome.KEY_FULL, AcquireOutcome.ACCOUNT_FULL

_accounts = itertools.count()


@pytest.fixture(params=["memory", "server", "sentinel", "cluster"])
async def leases(
    request: pytest.FixtureRequest, redis_url: str, redis_sentinels: Sentinels, redis_cluster: Cluster
) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield MemoryLeases()
        return
    urls = {"server": redis_url, "sentinel": redis_sentinels.url, "cluster": redis_cluster.url}
    async with connected_store(urls[request.param]) as store:
        yield RedisSubject(store.link)


@pytest.fixture
def account() -> str:
    return f"acct_{next(_accounts)}"


def lease(account_id: str, number: int, key_id: str = "key_1", stream: str = "logs") -> Lease:
    return Lease(str(10**18 + number), account_id, key_id, stream)


async def acquired(leases: Subject, one: Lease, stream: StreamClass = LOGS) -> AcquireOutcome:
    return (await leases.acquire(one, stream, PENDING_S)).outcome


async def opened(leases: Subject, account_id: str) -> list[str]:
    return [it.lease.lease_id for it in await leases.streams(account_id, "logs")]


async def test_a_key_and_an_account_have_as_many_streams_as_they_may(leases: Subject, account: str) -> None:
    outcomes = [await leases.acquire(lease(account, number), LOGS, PENDING_S) for number in range(4)]
    assert [it.outcome for it in outcomes] == [GRANTED, GRANTED, GRANTED, KEY_FULL]
    assert [it.of_key for it in outcomes] == [1, 2, 3, 3]
    others = [await acquired(leases, lease(account, 10 + number, f"key_{2 + number % 3}")) for number in range(8)]
    assert others == [GRANTED] * 7 + [ACCOUNT_FULL]
    assert await acquired(leases, lease(f"{account}_other", 1)) is GRANTED
    assert await acquired(leases, lease(account, 1, stream="events"), replace(LOGS, name="events")) is GRANTED


async def test_caps_hold_exactly_under_acquisitions_at_the_same_moment(leases: Subject, account: str) -> None:
    wanted = [lease(account, number, f"key_{number % 25}") for number in range(200)]
    outcomes = await asyncio.gather(*(acquired(leases, one) for one in wanted))
    assert outcomes.count(GRANTED) == 10
    assert len(await opened(leases, account)) == 10


async def test_a_repeated_acquisition_is_one_lease(leases: Subject, account: str) -> None:
    for _ in range(5):
        answer = await leases.acquire(lease(account, 1), LOGS, PENDING_S)
        assert (answer.outcome, answer.of_key, answer.of_account) == (GRANTED, 1, 1)
    assert len(await opened(leases, account)) == 1


async def test_undoing_one_of_two_claims_leaves_the_lease(leases: Subject, account: str) -> None:
    one = lease(account, 1)
    await acquired(leases, one)
    await acquired(leases, one)
    assert not await leases.undo(one)
    assert len(await opened(leases, account)) == 1
    assert await leases.undo(one)
    assert await opened(leases, account) == []
    assert not await leases.undo(one)


async def test_a_stream_that_was_seen_alive_is_not_undone(leases: Subject, account: str) -> None:
    one = lease(account, 1)
    await acquired(leases, one)
    await leases.renew(one, LOGS, 0)
    assert not await leases.undo(one)
    assert len(await opened(leases, account)) == 1


async def test_a_lease_without_a_report_expires(leases: Subject, account: str) -> None:
    for number in range(3):
        await acquired(leases, lease(account, number))
    await leases.wait(PENDING_S - 1, lease(account, 0))
    assert await acquired(leases, lease(account, 4)) is KEY_FULL
    await leases.wait(2, lease(account, 0))
    answer = await leases.acquire(lease(account, 4), LOGS, PENDING_S)
    assert (answer.outcome, answer.of_key, answer.expired) == (GRANTED, 1, 3)


async def test_a_report_renews_a_lease_for_its_whole_ttl(leases: Subject, account: str) -> None:
    one = lease(account, 1)
    await acquired(leases, one)
    for _ in range(3):
        assert await leases.renew(one, LOGS, 0) == Renewal(RenewOutcome.KEPT)
        await leases.wait(LOGS.ttl_s - 1, one)
    (listed,) = await leases.streams(account, "logs")
    assert listed.expires_at_ms - listed.seen_at_ms == LOGS.ttl_s * 1000
    await leases.wait(2, one)
    assert await opened(leases, account) == []


async def test_a_returning_lease_is_acquired_again_and_an_overshoot_is_reported(leases: Subject, account: str) -> None:
    cap = replace(LOGS, per_key=1)
    first, second = lease(account, 1), lease(account, 2)
    await acquired(leases, first, cap)
    await leases.wait(PENDING_S + 1, first)
    assert await leases.renew(first, cap, 0) == Renewal(RenewOutcome.RETAKEN)
    await leases.wait(LOGS.ttl_s + 1, first)
    assert await acquired(leases, second, cap) is GRANTED
    assert await leases.renew(first, cap, 0) == Renewal(RenewOutcome.RETAKEN, exceeds=True)
    assert await acquired(leases, lease(account, 3), cap) is KEY_FULL


async def test_a_lease_that_was_lost_comes_back_with_its_age(leases: Subject, account: str) -> None:
    assert await leases.renew(lease(account, 1), LOGS, int(BEGIN_S * 1000)) == Renewal(RenewOutcome.RETAKEN)
    (listed,) = await leases.streams(account, "logs")
    assert (listed.opened_at_ms, listed.lease.key_id) == (BEGIN_S * 1000, "key_1")


async def test_an_ended_stream_frees_its_slot_and_no_late_report_takes_it_again(leases: Subject, account: str) -> None:
    one = lease(account, 1)
    await acquired(leases, one)
    await leases.wait(7, one)
    assert await leases.release(one, guard_s=60) == pytest.approx(7, abs=0.5)
    assert await leases.release(one, guard_s=60) is None
    assert await leases.renew(one, LOGS, 0) == Renewal(RenewOutcome.ENDED)
    assert await acquired(leases, one) is AcquireOutcome.ENDED
    assert await opened(leases, account) == []
    await leases.wait(61, one)
    assert await acquired(leases, one) is GRANTED


async def test_a_slot_released_without_a_guard_is_acquired_again_by_an_open_stream(
    leases: Subject, account: str
) -> None:
    one = lease(account, 1)
    await acquired(leases, one)
    assert await leases.release(one, guard_s=0) is not None
    assert await leases.renew(one, LOGS, 0) == Renewal(RenewOutcome.RETAKEN)


async def test_a_suspect_lease_expires_soon_unless_it_is_renewed(leases: Subject, account: str) -> None:
    dead, alive = lease(account, 1), lease(account, 2)
    for one in (dead, alive):
        await acquired(leases, one)
        await leases.renew(one, LOGS, 0)
        assert await leases.suspect(one, 12)
        assert not await leases.suspect(one, 12.5)
    await leases.wait(10, dead)
    await leases.renew(alive, LOGS, 0)
    await leases.wait(3, dead)
    assert await opened(leases, account) == [alive.lease_id]
    assert not await leases.suspect(dead, 12)


async def test_a_stopped_keys_streams_are_shown_and_no_longer_counted(leases: Subject, account: str) -> None:
    one, cap = lease(account, 1), replace(LOGS, per_account=1)
    await acquired(leases, one, cap)
    await leases.renew(one, LOGS, 0)
    await leases.stop(account, "key_1", KeyState.REVOKED)
    assert await acquired(leases, lease(account, 2)) is AcquireOutcome.STOPPED
    assert await acquired(leases, lease(account, 3, "key_2"), cap) is ACCOUNT_FULL
    await leases.wait(59, one)
    assert await leases.renew(one, LOGS, 0) == Renewal(RenewOutcome.STOPPED)
    await leases.wait(2, one)
    assert await acquired(leases, lease(account, 3, "key_2"), cap) is GRANTED
    assert [it.is_stopped for it in await leases.streams(account, "logs")] == [True, False]
    await leases.wait(58, one)
    assert await opened(leases, account) == []


async def test_a_key_that_works_again_has_its_streams_counted_again(leases: Subject, account: str) -> None:
    one = lease(account, 1)
    await acquired(leases, one)
    await leases.stop(account, "key_1", KeyState.DISABLED)
    assert await leases.renew(one, LOGS, 0) == Renewal(RenewOutcome.STOPPED)
    await leases.stop(account, "key_1", KeyState.ACTIVE)
    await leases.wait(PENDING_S + 1, one)
    assert await leases.renew(one, LOGS, 0) == Renewal(RenewOutcome.RETAKEN)
    assert [it.is_stopped for it in await leases.streams(account, "logs")] == [False]


NUMBERS = st.sampled_from([0, 0, 0, 1, 2, 3])  # mostly one, whose steps then meet
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["acquire", "renew", "undo", "release", "forget", "suspect"]), NUMBERS),
        st.tuples(st.just("wait"), st.sampled_from([4, 9, 13, 31])),
        st.tuples(st.sampled_from(["stop", "resume"]), NUMBERS),
    ),
    min_size=8,
    max_size=30,
)
CAPS = st.builds(StreamClass, st.just("logs"), st.integers(1, 2), st.integers(1, 3), st.just(29))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CAPS, STEPS)
async def test_the_scripts_are_the_model(redis_url: str, stream: StreamClass, steps: list[tuple[str, int]]) -> None:
    link = RedisLink(redis_url, deadline_s=2, in_flight_max=1000)
    link.start()
    await link.reached.wait()
    subjects: list[Subject] = [MemoryLeases(), RedisSubject(link)]
    account_id = f"acct_{next(_accounts)}"
    named = [lease(account_id, number, f"key_{number % 2}") for number in range(4)]
    try:
        for step in steps:
            model, scripts = [await _taken(subject, stream, named, step) for subject in subjects]
            assert scripts == model, step
            seen = [_shown(await subject.streams(account_id, "logs")) for subject in subjects]
            assert seen[0] == seen[1], step
    finally:
        await link.close()


async def _taken(subject: Subject, stream: StreamClass, named: list[Lease], step: tuple[str, int]) -> object:
    what, number = step
    one = named[number % len(named)]
    match what:
        case "acquire":
            return await subject.acquire(one, stream, 7)
        case "renew":
            return await subject.renew(one, stream, 0)
        case "undo":
            return await subject.undo(one)
        case "release" | "forget":
            return (await subject.release(one, guard_s=29 if what == "release" else 0)) is None
        case "suspect":
            return await subject.suspect(one, 12)
        case "wait":
            await subject.wait(number, *named)
        case _:
            state = KeyState.REVOKED if what == "stop" else KeyState.ACTIVE
            await subject.stop(one.account_id, one.key_id, state)
    return None


def _shown(listed: list[OpenStream]) -> set[tuple[str, int, bool, bool]]:
    now_ms = max((it.expires_at_ms for it in listed), default=0)
    return {
        (it.lease.lease_id, round((now_ms - it.expires_at_ms) / 1000), it.seen_at_ms > 0, it.is_stopped)
        for it in listed
    }
