"""Every line is JSON, and an API key in it is masked."""

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from support.builders import FORMAT, KEY, ROUTES, request, take

from authz.adapters import logs
from authz.adapters.decision_log import DecisionLog
from authz.core.check import Allow, Deny, Principal
from authz.core.errors import DenyReason


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers


def decision_log(sample: float, chance: float = 0.5) -> DecisionLog:
    return DecisionLog(logs.line_writer("authz.decision", "info", FORMAT.pattern), sample=sample, chance=lambda: chance)


def configured() -> None:
    """Log to the stream of the test that runs; a fixture would see the one of its set-up."""
    logs.configure("info", FORMAT.pattern)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_key_is_masked_in_fields_tracebacks_and_other_libraries_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configured()
    try:
        raise ValueError(KEY)  # noqa: TRY301 -- the traceback is what is tested
    except ValueError:
        logging.getLogger("authz").exception("failed", extra={"what": f"with {KEY}"})
    logging.getLogger("elsewhere").warning("got %s", KEY)
    out = capsys.readouterr().out
    assert KEY not in out
    assert out.count("[api key]") >= 3


def test_a_line_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configured()
    logging.getLogger("authz").debug("quiet")
    assert lines(capsys) == []


async def test_every_refusal_is_logged_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    log = decision_log(sample=0)
    principal = Principal("acct_1", "key_1", frozenset())
    barred = (1, request("GET", f"/v1/servers/{KEY}?q=1", KEY), Deny(DenyReason.BARRED, ROUTES[-1], principal))
    broken = (2, request(), Deny(DenyReason.STORE_UNAVAILABLE, detail="redis unavailable: closed"))
    log.decided([barred, broken], 0.0012)
    await asyncio.sleep(0)
    refused, failed = lines(capsys)
    assert refused["reason"] == "barred"
    assert refused["route"] == "/v1/admin/**"
    assert (refused["account_id"], refused["key_id"]) == ("acct_1", "key_1")
    assert refused["latency_ms"] == 1.2
    assert (refused["level"], refused["logger"]) == ("info", "authz.decision")
    assert datetime.fromisoformat(str(refused["timestamp"])).tzinfo is UTC
    assert "s1" not in str(refused)
    assert failed["detail"] == "redis unavailable: closed"


async def test_a_key_in_a_decision_line_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    decision_log(sample=0).decided([(1, request(KEY), Deny(DenyReason.METHOD_REFUSED))], 0.001)
    await asyncio.sleep(0)
    (line,) = lines(capsys)
    assert line["method"] == "[api key]"


async def test_decisions_are_not_written_where_the_level_leaves_them_out(capsys: pytest.CaptureFixture[str]) -> None:
    write = logs.line_writer("authz.decision", "warning", FORMAT.pattern)
    DecisionLog(write, sample=1, chance=lambda: 0).decided([(1, request(), Deny(DenyReason.KEY_MISSING))], 0.001)
    await asyncio.sleep(0)
    assert lines(capsys) == []


async def test_allowed_checks_are_sampled_and_shadowed_ones_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    for chance in (0.4, 0.6):
        decision_log(sample=0.5, chance=chance).decided([(1, request(), Allow(ROUTES[0], bucket=take().bucket))], 0.001)
    decision_log(sample=0).decided([(1, request(), Allow(ROUTES[0], would_deny=DenyReason.KEY_MISSING))], 0.001)
    await asyncio.sleep(0)
    written = lines(capsys)
    assert [line.get("would_deny") for line in written] == [None, "key_missing"]
