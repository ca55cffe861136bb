"""Lines of one kind have a rate; what it suppresses is counted and reported, and the first of each kind is shown."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from support.builders import ROUTES, request

from authz.adapters import logs
from authz.adapters.decision_log import DecisionLog
from authz.adapters.log_limits import LineLimits
from authz.core.check import Deny
from authz.core.errors import DenyReason
from authz.service.ports import Decided


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def _restored() -> Iterator[None]:
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(capture=False)


def denial(reason: DenyReason, route: int | None = None) -> Decided:
    return 1, request(), Deny(reason, None if route is None else ROUTES[route])


def test_a_burst_passes_then_a_rate(clock: Clock) -> None:
    limits = LineLimits(10, 100, now_s=clock)
    assert [limits.admit("a") for _ in range(150)] == [0] * 100 + [None] * 50
    assert limits.admit("b") == 0
    clock.now_s += 1
    assert [limits.admit("a") for _ in range(11)] == [50] + [0] * 9 + [None]
    assert limits.total == 51


def test_kinds_beyond_the_bound_share_a_bucket(clock: Clock) -> None:
    limits = LineLimits(1, 2, now_s=clock)
    for number in range(1_024):
        assert limits.admit(number) == 0
    assert [limits.admit(number) for number in range(5_000, 5_004)] == [0, 0, None, None]


def test_denials_of_a_flood_are_counted_and_the_first_of_each_reason_and_route_is_logged(clock: Clock) -> None:
    written: list[dict[str, Any]] = []
    log = DecisionLog(written.append, sample=0, chance=lambda: 1, limits=LineLimits(10, 20, now_s=clock))
    log.decided([denial(DenyReason.KEY_MISSING, 0)] * 5_000, 0.001)
    assert len(written) == 20
    log.decided([denial(DenyReason.KEY_MISSING, 1), denial(DenyReason.KEY_MISSING, 1)], 0.001)
    assert written[-1]["route"] == ROUTES[1].template
    assert written[-1]["suppressed"] == 4_980
    log.decided([denial(DenyReason.BARRED, 0)], 0.001)
    assert written[-1]["reason"] == "barred"
    assert "suppressed" not in written[-1]
    log.report_suppressed()
    assert written[-1] == {"event": "denials not logged", "reason": "key_missing", "suppressed": 1}
    log.report_suppressed()
    assert len(written) == 23
    assert log.suppressed == 4_981


def test_long_texts_of_callers_are_replaced_and_not_cut(clock: Clock) -> None:
    written: list[dict[str, Any]] = []
    log = DecisionLog(written.append, sample=0, chance=lambda: 1, limits=LineLimits(now_s=clock))
    log.decided([(1, request("A-" * 30_000), Deny(DenyReason.METHOD_REFUSED))], 0.001)
    assert written[0]["method"] == "[too long]"


@pytest.mark.usefixtures("_restored")
def test_other_lines_have_a_rate_by_what_they_say(capfd: pytest.CaptureFixture[str]) -> None:
    log = logs.configure("info", "ttk_x")
    for number in range(1_000):
        logging.getLogger("authz").warning("number %s", number)
    logging.getLogger("authz").warning("another")
    logging.getLogger("authz").error("huge", extra={"text": "ttk_x" * 20_000})
    log.close(5)
    lines = capfd.readouterr().out.splitlines()
    assert 100 <= len(lines) < 120
    assert log.dropped()["rate_limited"] > 880
    assert any('"event":"another"' in line for line in lines)
    assert "ttk_x" not in lines[-1]
    assert len(lines[-1]) < 1_000
