"""When a sidecar gets checks: after its stores were available once, unless it alone may have lost Redis."""

import logging

import pytest
from support.fakes.checker_dependencies import FakeClock

from authz.service.check.failure_modes import FailureMode, FailureModes
from authz.service.serving import OUTAGE_S, START_S, Serving

DENY = FailureModes()
DEGRADE = FailureModes(redis=FailureMode.DEGRADE)


class Stores:
    """Two stores that were not available yet, and what was reported of them."""

    def __init__(self, modes: FailureModes) -> None:
        self.reached = {"redis": False, "postgres": False}
        self.fault = "not connected"
        self.reported: list[bool] = []
        self.clock = FakeClock()
        self.serving = Serving(lambda: self.reached, lambda: self.fault, modes, self._report, now_s=self.clock)

    async def _report(self, serving: bool) -> None:  # noqa: FBT001 -- the state itself
        self.reported.append(serving)

    async def reach(self) -> None:
        self.reached = {"redis": True, "postgres": True}
        self.fault = ""
        await self.serving.update()

    async def pass_by(self, seconds: float) -> None:
        for _ in range(10):
            self.clock.now_s += seconds / 10
            await self.serving.update()


async def test_nothing_is_served_before_every_store_was_available() -> None:
    stores = Stores(DENY)
    await stores.pass_by(60)
    stores.reached["redis"], stores.fault = True, ""
    await stores.pass_by(60)
    assert (stores.reported, stores.serving.conditions()["postgres"]) == ([], False)
    await stores.reach()
    assert stores.reported == [True]
    assert stores.serving.conditions() == {"redis": True, "postgres": True, "serving": True}


async def test_a_sidecar_leaves_the_rotation_while_it_has_lost_redis_and_stays_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stores = Stores(DENY)
    await stores.reach()
    for fault in ("not connected", "no answer within 50 ms", "OOM command not allowed"):
        stores.reported.clear()
        stores.fault = fault
        await stores.pass_by(OUTAGE_S * 0.9)
        assert stores.reported == []
        await stores.pass_by(OUTAGE_S)
        assert stores.reported == [False]
        assert all(stores.serving.conditions().values())
        stores.fault = ""
        await stores.serving.update()
        assert stores.reported == [False, True]
    assert [line.levelno for line in caplog.records].count(logging.WARNING) == 3


async def test_short_outages_do_not_add_up() -> None:
    stores = Stores(DENY)
    await stores.reach()
    for _ in range(5):
        stores.fault = "not connected"
        await stores.pass_by(OUTAGE_S * 0.9)
        stores.fault = ""
        await stores.serving.update()
    assert stores.reported == [True]


async def test_in_degrade_an_outage_of_redis_changes_nothing() -> None:
    stores = Stores(DEGRADE)
    await stores.reach()
    stores.fault = "not connected"
    await stores.pass_by(60)
    assert stores.reported == [True]


async def test_in_degrade_a_start_during_an_outage_becomes_ready_and_waits_a_moment_first() -> None:
    stores = Stores(DEGRADE)
    stores.reached["postgres"] = True
    await stores.pass_by(START_S * 0.9)
    assert stores.reported == []
    await stores.pass_by(START_S)
    assert stores.reported == [True]
    assert all(stores.serving.conditions().values())


async def test_the_failure_mode_of_one_store_says_nothing_about_the_other() -> None:
    stores = Stores(DEGRADE)
    await stores.pass_by(60)
    assert stores.reported == []
    assert not stores.serving.conditions()["postgres"]


async def test_a_drain_is_for_good_and_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    stores = Stores(DENY)
    await stores.reach()
    await stores.serving.drain()
    stores.fault = "not connected"
    await stores.pass_by(60)
    stores.fault = ""
    await stores.pass_by(60)
    assert stores.reported == [True, False]
    assert not stores.serving.conditions()["serving"]
    assert [line for line in caplog.records if line.levelno >= logging.WARNING] == []
