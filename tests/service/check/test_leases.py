"""The life cycle of a lease: the effect of each report, and of an unavailable store."""

import asyncio

import pytest
from support.builders import LOGS
from support.fakes.leases import BEGIN_S, LeaseCounters, MemoryLeases

from authz.core.errors import StoreUnavailable
from authz.core.streams import AcquireOutcome, Lease, ReleaseCause
from authz.service.check import leases as leases_module
from authz.service.check.leases import Leases
from authz.service.check.tasks import Tasks

HEARTBEAT_S = 5
OPENED_MS = int(BEGIN_S * 1000)


class Stack:
    """Leases over a store in memory, both on clocks that tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = MemoryLeases()
        self.counted = LeaseCounters()
        self.leases = Leases(self.store, self.counted, stream_class={LOGS.name: LOGS}.get, heartbeat_s=HEARTBEAT_S)
        monkeypatch.setattr(Leases, "_now_s", lambda _leases: self.store.now_s)

    async def settle(self) -> None:
        """Wait until every started task has ended."""
        while tasks := self.leases._tasks.running:  # noqa: SLF001 -- what nobody else waits for
            await asyncio.gather(*tasks)

    async def pass_s(self, seconds: float) -> None:
        await self.settle()
        await self.store.wait(seconds)

    async def open(self) -> list[str]:
        return [it.lease.lease_id for it in await self.store.streams("acct_1", "logs")]


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Stack:
    return Stack(monkeypatch)


def lease(number: int, stream: str = "logs") -> Lease:
    return Lease(str(number), "acct_1", "key_1", stream)


async def test_a_stream_that_never_gives_a_sign_of_life_frees_its_slot_after_three_heartbeats(stack: Stack) -> None:
    assert (await stack.leases.acquire(lease(1), LOGS)).of_key == 1
    await stack.pass_s(3 * HEARTBEAT_S - 0.1)
    assert await stack.open() == ["1"]
    await stack.pass_s(0.2)
    acquired = await stack.leases.acquire(lease(2), LOGS)
    assert (acquired.of_key, acquired.expired) == (1, 1)
    assert stack.counted.releases == [ReleaseCause.EXPIRY]
    assert stack.counted.acquisitions == [AcquireOutcome.GRANTED] * 2


async def test_a_stream_that_lives_keeps_its_slot_and_its_end_frees_it(stack: Stack) -> None:
    await stack.leases.acquire(lease(1), LOGS)
    for _ in range(30):
        await stack.pass_s(HEARTBEAT_S)
        stack.leases.renew(lease(1), OPENED_MS, "envoy")
    await stack.settle()
    assert stack.leases.alive() == {"logs": 1}
    stack.leases.end(lease(1))
    stack.leases.end(lease(1))
    await stack.settle()
    assert await stack.open() == []
    assert stack.leases.alive() == {}
    assert (stack.counted.releases, stack.counted.retakes) == ([ReleaseCause.END], [])


async def test_a_sign_of_life_that_arrives_after_the_end_does_nothing(stack: Stack) -> None:
    await stack.leases.acquire(lease(1), LOGS)
    stack.leases.end(lease(1))
    stack.leases.renew(lease(1), OPENED_MS, "envoy")
    await stack.settle()
    assert await stack.open() == []
    assert stack.counted.retakes == []


async def test_a_sidecar_renews_what_another_took_and_takes_again_what_ran_out(stack: Stack) -> None:
    stack.leases.renew(lease(1), OPENED_MS, "envoy")
    await stack.settle()
    assert await stack.open() == ["1"]
    assert stack.counted.retakes == [False]
    for number in (2, 3):
        await stack.leases.acquire(lease(number), LOGS)
    stack.leases.renew(lease(4), OPENED_MS, "envoy")
    await stack.settle()
    assert stack.counted.retakes == [False, True]


async def test_streams_whose_reporter_breaks_off_run_out_unless_another_reports_them(stack: Stack) -> None:
    for number in (1, 2, 3):
        await stack.leases.acquire(lease(number), LOGS)
        stack.leases.renew(lease(number), OPENED_MS, "gone" if number < 3 else "other")
    stack.leases.lose("gone")
    await stack.pass_s(2 * HEARTBEAT_S)
    stack.leases.renew(lease(2), OPENED_MS, "new")
    await stack.pass_s(HEARTBEAT_S)
    assert await stack.open() == ["2", "3"]
    await stack.pass_s(LOGS.ttl_s - HEARTBEAT_S - 1)
    assert await stack.open() == ["2"]


async def test_an_end_that_did_not_arrive_at_the_store_is_sent_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "_RETRY_MIN_S", 0.001)
    await stack.leases.acquire(lease(1), LOGS)
    stack.store.is_down = True
    stack.leases.end(lease(1))
    await asyncio.sleep(0.005)
    stack.store.is_down = False
    await stack.settle()
    assert await stack.open() == []


async def test_an_end_that_never_arrives_is_dropped_when_the_lease_has_expired(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "_RETRY_MIN_S", 0.001)
    stack.store.is_down = True
    stack.leases.end(lease(1))
    await asyncio.sleep(0.005)
    stack.store.now_s += LOGS.ttl_s
    await stack.settle()
    assert stack.counted.releases == []


async def test_an_emptied_store_learns_of_open_streams_before_new_ones(stack: Stack) -> None:
    for number in (1, 2, 3):
        await stack.leases.acquire(lease(number), LOGS)
        stack.leases.renew(lease(number), OPENED_MS, "envoy")
    await stack.settle()
    await stack.store.lose_everything()
    with pytest.raises(StoreUnavailable, match="counted anew"):
        await stack.leases.acquire(lease(4), LOGS)
    stack.leases.renew(lease(2), OPENED_MS, "envoy")
    await stack.settle()
    assert await stack.open() == ["1", "2", "3"]
    await stack.pass_s(1.5 * HEARTBEAT_S)
    assert (await stack.leases.acquire(lease(4), LOGS)).outcome is AcquireOutcome.KEY_FULL
    assert stack.counted.retakes == [False] * 3


async def test_a_stream_whose_end_another_sidecar_saw_is_dropped_and_stays_dropped(stack: Stack) -> None:
    stack.leases.renew(lease(1), OPENED_MS, "envoy")
    await stack.pass_s(3 * HEARTBEAT_S)
    assert stack.leases.alive() == {}
    await stack.store.lose_everything()
    stack.leases.renew(lease(2), OPENED_MS, "envoy")
    await stack.settle()
    assert await stack.open() == ["2"]


async def test_an_unavailable_store_is_reported_to_the_check_alone(stack: Stack) -> None:
    stack.store.is_down = True
    with pytest.raises(StoreUnavailable):
        await stack.leases.acquire(lease(1), LOGS)
    await stack.leases.undo(lease(1))
    stack.leases.renew(lease(1), OPENED_MS, "envoy")
    stack.leases.lose("envoy")
    await stack.settle()
    stack.store.is_down = False
    assert await stack.open() == []


async def test_a_class_that_left_the_policy_is_no_longer_counted_and_still_freed(stack: Stack) -> None:
    stack.leases.renew(lease(1, "videos"), OPENED_MS, "envoy")
    stack.leases.end(lease(1, "videos"))
    await stack.settle()
    assert stack.store.held == []


async def test_an_undone_lease_is_counted_as_unwanted(stack: Stack) -> None:
    await stack.leases.acquire(lease(1), LOGS)
    await stack.leases.undo(lease(1))
    await stack.leases.undo(lease(1))
    assert stack.counted.releases == [ReleaseCause.UNWANTED]


async def test_signs_beyond_counting_are_dropped_and_nothing_breaks(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack.leases, "_tasks", Tasks(1))
    for number in range(3):
        stack.leases.renew(lease(number), OPENED_MS, "envoy")
    await stack.settle()
    assert await stack.open() == ["0"]


async def test_closing_waits_for_ends_but_not_for_ever(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    await stack.leases.close()
    monkeypatch.setattr(leases_module, "_RETRY_MAX_S", 0.02)
    await stack.leases.acquire(lease(1), LOGS)
    stack.leases.end(lease(1))
    await stack.leases.close()
    assert await stack.open() == []
    stack.store.is_down = True
    stack.leases.end(lease(2))
    await stack.leases.close()
    assert not stack.leases._tasks.running  # noqa: SLF001 -- as above
