"""Background loops: nothing ends them, each cause is logged once, and what fails can be seen."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from authz.core.errors import StoreUnavailable
from authz.service.supervision import Supervisor


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.stop()


def scripted(*outcomes: BaseException | None) -> tuple[Callable[[], Awaitable[None]], asyncio.Event]:
    """Return a round that ends as listed, one after the other, and the event of its list's end."""
    left, is_over = list(outcomes), asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        if not left:
            is_over.set()
            return
        outcome = left.pop(0)
        if outcome is not None:
            raise outcome

    return work, is_over


def unavailable() -> StoreUnavailable:
    return StoreUnavailable("postgres", "no answer in time")


async def test_whatever_a_round_raises_the_next_one_follows(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    work, is_over = scripted(ValueError("hunter2"), RecursionError(), unavailable(), unavailable(), KeyError("x"), None)
    supervisor.keep("probe", work, 0.001)
    await is_over.wait()
    assert supervisor.failures == {"probe": 5}
    assert supervisor.faults == {}
    causes = [getattr(line, "error", line.getMessage()) for line in caplog.records]
    assert [cause.partition(" at ")[0] for cause in causes] == [
        "ValueError",
        "RecursionError",
        "postgres unavailable: no answer in time",  # twice, and told once
        "KeyError",
        "a background loop recovered",
    ]
    assert "test_supervision.py:" in causes[0]
    assert "hunter2" not in caplog.text


async def test_what_fails_now_can_be_seen(supervisor: Supervisor) -> None:
    async def fail() -> None:
        raise unavailable()

    work, is_over = scripted(None)
    supervisor.keep("probe", fail, 10)
    supervisor.keep("healthy", work, 0.001)
    await is_over.wait()
    assert supervisor.faults == {"probe": "postgres unavailable: no answer in time"}
    assert supervisor.failures == {"probe": 1, "healthy": 0}


async def test_a_cancelled_call_inside_of_a_round_does_not_end_the_loop(supervisor: Supervisor) -> None:
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        raise asyncio.CancelledError

    supervisor.keep("probe", work, 0.001)
    while rounds < 3:
        await asyncio.sleep(0.001)
    assert supervisor.failures["probe"] >= 2


async def test_a_single_work_fails_like_a_round_and_holds_up_nobody(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    supervisor.expect("mail", event="a mail was not sent")
    work, _ = scripted(unavailable(), ValueError("hunter2"), asyncio.CancelledError(), None)
    for faults in ("postgres unavailable: no answer in time", "ValueError", "CancelledError", ""):
        supervisor.start("mail", work)
        await supervisor.settled()
        assert supervisor.faults.get("mail", "").partition(" at ")[0] == faults
    assert supervisor.failures == {"mail": 3}
    assert [line.getMessage() for line in caplog.records] == ["a mail was not sent"] * 3 + [
        "a background loop recovered"
    ]
    assert "hunter2" not in caplog.text


async def test_works_have_a_maximum_and_an_end(supervisor: Supervisor) -> None:
    ended: list[str] = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("never")

    for _ in range(201):
        supervisor.start("mail", never)
    assert supervisor.faults == {"mail": "more than 200 are under way"}
    await asyncio.sleep(0)
    await supervisor.stop(0.01)
    assert ended == ["never"] * 200


async def test_a_slow_loop_that_failed_is_tried_again_soon(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authz.service.supervision._RETRY_S", 0.01)
    work, _ = scripted(unavailable(), unavailable())
    supervisor.keep("links", work, 3_600)
    async with asyncio.timeout(2):
        while supervisor.failures["links"] < 2 or supervisor.faults:
            await asyncio.sleep(0.01)
