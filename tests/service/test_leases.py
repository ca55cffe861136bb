"""A lease through its life: what each sign does to it, and what happens while the store is away."""

import asyncio

import pytest
from builders import LOGS
from open_streams import BEGIN_S, Counted, MemoryLeases

from authz.core.errors import StoreUnavailable
from authz.core.streams import AcquireOutcome, Lease, ReleaseCause
from authz.service import leases as leases_module
from authz.service.leases import Leases

HEARTBEAT_S = 5
OPENED_MS = int(BEGIN_S * 1000)


class House:
    """Leases over a store in memory, both on clocks that tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = MemoryLeases()
        self.counted = Counted()
        self.leases = Leases(self.store, self.counted, stream_class={LOGS.name: LOGS}.get, heartbeat_s=HEARTBEAT_S)
        monkeypatch.setattr(Leases, "_now_s", lambda _leases: self.store.now_s)

    async def settle(self) -> None:
        """Let every task that was begun end."""
        while tasks := self.leases._tasks:  # noqa: SLF001 -- what nobody else waits for
            await asyncio.gather(*tasks)

    async def pass_s(self, seconds: float) -> None:
        await self.settle()
        await self.store.wait(seconds)

    async def open(self) -> list[str]:
        return [it.lease.lease_id for it in await self.store.streams("acct_1", "logs")]


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch)


def lease(number: int, stream: str = "logs") -> Lease:
    return Lease(str(number), "acct_1", "key_1", stream)


async def test_a_stream_that_never_gives_a_sign_of_life_frees_its_slot_after_three_heartbeats(house: House) -> None:
    assert (await house.leases.acquire(lease(1), LOGS)).of_key == 1
    await house.pass_s(3 * HEARTBEAT_S - 0.1)
    assert await house.open() == ["1"]
    await house.pass_s(0.2)
    acquired = await house.leases.acquire(lease(2), LOGS)
    assert (acquired.of_key, acquired.expired) == (1, 1)
    assert house.counted.releases == [ReleaseCause.EXPIRY]
    assert house.counted.acquisitions == [AcquireOutcome.GRANTED] * 2


async def test_a_stream_that_lives_keeps_its_slot_and_its_end_frees_it(house: House) -> None:
    await house.leases.acquire(lease(1), LOGS)
    for _ in range(30):
        await house.pass_s(HEARTBEAT_S)
        house.leases.renew(lease(1), OPENED_MS, "envoy")
    await house.settle()
    assert house.leases.alive() == {"logs": 1}
    house.leases.end(lease(1))
    house.leases.end(lease(1))
    await house.settle()
    assert await house.open() == []
    assert house.leases.alive() == {}
    assert (house.counted.releases, house.counted.retakes) == ([ReleaseCause.END], [])


async def test_a_sign_of_life_that_arrives_after_the_end_does_nothing(house: House) -> None:
    await house.leases.acquire(lease(1), LOGS)
    house.leases.end(lease(1))
    house.leases.renew(lease(1), OPENED_MS, "envoy")
    await house.settle()
    assert await house.open() == []
    assert house.counted.retakes == []


async def test_a_sidecar_renews_what_another_took_and_takes_again_what_ran_out(house: House) -> None:
    house.leases.renew(lease(1), OPENED_MS, "envoy")
    await house.settle()
    assert await house.open() == ["1"]
    assert house.counted.retakes == [False]
    for number in (2, 3):
        await house.leases.acquire(lease(number), LOGS)
    house.leases.renew(lease(4), OPENED_MS, "envoy")
    await house.settle()
    assert house.counted.retakes == [False, True]


async def test_streams_whose_reporter_breaks_off_run_out_unless_another_reports_them(house: House) -> None:
    for number in (1, 2, 3):
        await house.leases.acquire(lease(number), LOGS)
        house.leases.renew(lease(number), OPENED_MS, "gone" if number < 3 else "other")
    house.leases.lose("gone")
    await house.pass_s(2 * HEARTBEAT_S)
    house.leases.renew(lease(2), OPENED_MS, "new")
    await house.pass_s(HEARTBEAT_S)
    assert await house.open() == ["2", "3"]
    await house.pass_s(LOGS.ttl_s - HEARTBEAT_S - 1)
    assert await house.open() == ["2"]


async def test_an_end_that_the_store_did_not_hear_is_told_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases_module, "_RETRY_MIN_S", 0.001)
    await house.leases.acquire(lease(1), LOGS)
    house.store.is_down = True
    house.leases.end(lease(1))
    await asyncio.sleep(0.005)
    house.store.is_down = False
    await house.settle()
    assert await house.open() == []


async def test_an_end_that_the_store_never_hears_is_given_up_when_the_lease_has_run_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "_RETRY_MIN_S", 0.001)
    house.store.is_down = True
    house.leases.end(lease(1))
    await asyncio.sleep(0.005)
    house.store.now_s += LOGS.ttl_s
    await house.settle()
    assert house.counted.releases == []


async def test_a_store_that_lost_its_leases_hears_of_what_lives_before_anything_new(house: House) -> None:
    for number in (1, 2, 3):
        await house.leases.acquire(lease(number), LOGS)
        house.leases.renew(lease(number), OPENED_MS, "envoy")
    await house.settle()
    await house.store.lose_everything()
    with pytest.raises(StoreUnavailable, match="counted anew"):
        await house.leases.acquire(lease(4), LOGS)
    house.leases.renew(lease(2), OPENED_MS, "envoy")
    await house.settle()
    assert await house.open() == ["1", "2", "3"]
    await house.pass_s(1.5 * HEARTBEAT_S)
    assert (await house.leases.acquire(lease(4), LOGS)).outcome is AcquireOutcome.KEY_FULL
    assert house.counted.retakes == [False] * 3


async def test_a_stream_whose_end_went_elsewhere_is_forgotten_and_not_brought_back(house: House) -> None:
    house.leases.renew(lease(1), OPENED_MS, "envoy")
    await house.pass_s(3 * HEARTBEAT_S)
    assert house.leases.alive() == {}
    await house.store.lose_everything()
    house.leases.renew(lease(2), OPENED_MS, "envoy")
    await house.settle()
    assert await house.open() == ["2"]


async def test_a_store_out_of_reach_is_told_to_the_check_and_to_nobody_else(house: House) -> None:
    house.store.is_down = True
    with pytest.raises(StoreUnavailable):
        await house.leases.acquire(lease(1), LOGS)
    await house.leases.undo(lease(1))
    house.leases.renew(lease(1), OPENED_MS, "envoy")
    house.leases.lose("envoy")
    await house.settle()
    house.store.is_down = False
    assert await house.open() == []


async def test_a_class_that_left_the_policy_is_no_longer_counted_and_still_freed(house: House) -> None:
    house.leases.renew(lease(1, "videos"), OPENED_MS, "envoy")
    house.leases.end(lease(1, "videos"))
    await house.settle()
    assert house.store.held == []


async def test_an_undone_lease_is_counted_as_unwanted(house: House) -> None:
    await house.leases.acquire(lease(1), LOGS)
    await house.leases.undo(lease(1))
    await house.leases.undo(lease(1))
    assert house.counted.releases == [ReleaseCause.UNWANTED]


async def test_signs_beyond_counting_are_dropped_and_nothing_breaks(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "_TASKS_MAX", 1)
    for number in range(3):
        house.leases.renew(lease(number), OPENED_MS, "envoy")
    await house.settle()
    assert await house.open() == ["0"]


async def test_closing_waits_for_ends_but_not_for_ever(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.leases.close()
    monkeypatch.setattr(leases_module, "_RETRY_MAX_S", 0.02)
    await house.leases.acquire(lease(1), LOGS)
    house.leases.end(lease(1))
    await house.leases.close()
    assert await house.open() == []
    house.store.is_down = True
    house.leases.end(lease(2))
    await house.leases.close()
    assert not house.leases._tasks  # noqa: SLF001 -- as above
