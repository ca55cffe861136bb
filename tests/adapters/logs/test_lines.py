"""Every line is JSON, and an API key in it is masked."""

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property

import pytest
from msgspec.structs import replace
from support.builders import FORMAT, KEY, ROUTES, request, take

from authz.adapters import logs
from authz.adapters.decision_log import DecisionLog
from authz.core.check import Allow, Deny, Principal
from authz.core.errors import DenyReason


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    handlers, hooks = logging.getLogger().handlers[:], (sys.unraisablehook, threading.excepthook)
    yield
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(capture=False)
    sys.unraisablehook, threading.excepthook = hooks


class Written:
    """The log of one test with its lines; it begins in the test, because the set-up has another output."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    @cached_property
    def log(self) -> logs.ProcessLog:
        return logs.configure("info", FORMAT.pattern)

    def text(self) -> str:
        self.log.close(5)
        return self._capfd.readouterr().out

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text().splitlines()]

    def decisions(self, sample: float, chance: float = 0.5) -> DecisionLog:
        return DecisionLog(self.log.line_writer("authz.decision"), sample=sample, chance=lambda: chance)


@pytest.fixture
def written(capfd: pytest.CaptureFixture[str]) -> Written:
    return Written(capfd)


def test_a_key_is_masked_in_fields_tracebacks_and_other_libraries_lines(written: Written) -> None:
    assert written.log.handler in logging.getLogger().handlers
    try:
        raise ValueError(KEY)  # noqa: TRY301 -- the traceback is what is tested
    except ValueError:
        logging.getLogger("authz").exception("failed", extra={"what": f"with {KEY}"})
    logging.getLogger("elsewhere").warning("got %s", KEY)
    out = written.text()
    assert KEY not in out
    assert out.count("[api key]") >= 3


def test_a_line_below_the_level_is_not_written(written: Written) -> None:
    assert written.log.handler in logging.getLogger().handlers
    logging.getLogger("authz").debug("quiet")
    assert written.lines() == []


async def test_every_refusal_is_logged_with_its_reason(written: Written) -> None:
    log = written.decisions(sample=0)
    principal = Principal("acct_1", "key_1", frozenset())
    barred = (1, request("GET", f"/v1/servers/{KEY}?q=1", KEY), Deny(DenyReason.BARRED, ROUTES[-1], principal))
    broken = (2, request(), Deny(DenyReason.STORE_UNAVAILABLE, detail="redis unavailable: closed"))
    log.decided([barred, broken], 0.0012)
    await asyncio.sleep(0)
    refused, failed = written.lines()
    assert refused["reason"] == "barred"
    assert refused["route"] == "/v1/admin/**"
    assert (refused["account_id"], refused["key_id"]) == ("acct_1", "key_1")
    assert refused["latency_ms"] == 1.2
    assert (refused["level"], refused["logger"]) == ("info", "authz.decision")
    assert datetime.fromisoformat(str(refused["timestamp"])).tzinfo is UTC
    assert "s1" not in str(refused)
    assert failed["detail"] == "redis unavailable: closed"


IDS = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


class Traced:
    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent
        self.is_sampled = False


@pytest.mark.parametrize(
    ("traceparent", "ids"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", IDS),
        ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", IDS),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
        (KEY, None),
        ("", None),
    ],
)
async def test_a_decision_line_has_the_ids_of_its_request(
    written: Written, traceparent: str, ids: tuple[str, str] | None
) -> None:
    attributes = replace(request(), x_request_id=b"4d1b", call=Traced(traceparent))
    written.decisions(sample=0).decided([(1, attributes, Deny(DenyReason.BARRED))], 0.001)
    await asyncio.sleep(0)
    (line,) = written.lines()
    assert (line["request_id"], line["stream_id"]) == ("4d1b", "1")
    assert (line.get("trace_id"), line.get("span_id")) == (ids or (None, None))


def test_the_level_switches_to_debug_and_back(written: Written) -> None:
    log, logger = written.log, logging.getLogger("authz")
    logger.debug("first")
    assert log.switch_level() == "debug"
    logger.debug("second")
    assert log.switch_level() == "info"
    logger.debug("third")
    assert [line["event"] for line in written.lines()] == ["second"]


async def test_a_key_in_a_decision_line_is_masked(written: Written) -> None:
    written.decisions(sample=0).decided([(1, request(KEY), Deny(DenyReason.METHOD_REFUSED))], 0.001)
    await asyncio.sleep(0)
    (line,) = written.lines()
    assert line["method"] == "[api key]"


async def test_decisions_are_not_written_where_the_level_leaves_them_out(written: Written) -> None:
    write = logs.ProcessLog("warning", FORMAT.pattern).line_writer("authz.decision")
    DecisionLog(write, sample=1, chance=lambda: 0).decided([(1, request(), Deny(DenyReason.KEY_MISSING))], 0.001)
    await asyncio.sleep(0)
    assert written.lines() == []


async def test_allowed_checks_are_sampled_and_shadowed_ones_are_not(written: Written) -> None:
    for chance in (0.4, 0.6):
        allow = Allow(ROUTES[0], bucket=take().bucket)
        written.decisions(sample=0.5, chance=chance).decided([(1, request(), allow)], 0.001)
    written.decisions(sample=0).decided([(1, request(), Allow(ROUTES[0], would_deny=DenyReason.KEY_MISSING))], 0.001)
    await asyncio.sleep(0)
    assert [line.get("would_deny") for line in written.lines()] == [None, "key_missing"]
