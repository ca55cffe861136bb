"""The names of the fields of a line, by setting: each field keeps its value under one name, and keys stay masked."""

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from support.builders import FORMAT, KEY, request

from authz.adapters import logs
from authz.adapters.decision_log import DecisionLog
from authz.adapters.log_fields import LogFields, rename_to
from authz.core.check import Deny
from authz.core.errors import DenyReason

DECISION: dict[LogFields, dict[str, object]] = {
    LogFields.ECS: {
        "message": "decision",
        "labels.decision": "deny",
        "event.reason": "barred",
        "http.request.method": "GET",
        "http.request.id": "4d1b",
        "source.address": "203.0.113.9",
        "log.level": "info",
        "log.logger": "authz.decision",
    },
    LogFields.OTEL: {"Body": "decision", "SeverityText": "info", "SeverityNumber": 9},
    LogFields.AUTHZ: {"event": "decision", "decision": "deny", "reason": "barred", "level": "info"},
}


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    handlers, hooks = logging.getLogger().handlers[:], (sys.unraisablehook, threading.excepthook)
    yield
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(capture=False)
    sys.unraisablehook, threading.excepthook = hooks


def written(log: logs.ProcessLog, capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    log.close(5)
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


@pytest.mark.parametrize("names", LogFields)
async def test_a_decision_line_has_the_names_of_the_setting(
    names: LogFields, capfd: pytest.CaptureFixture[str]
) -> None:
    log = logs.configure("info", FORMAT.pattern, names)
    decisions = DecisionLog(log.line_writer("authz.decision"), sample=0, chance=lambda: 1)
    decisions.decided([(1, replace(request(), x_request_id=b"4d1b"), Deny(DenyReason.BARRED))], 0.001)
    await asyncio.sleep(0)
    (line,) = written(log, capfd)
    assert DECISION[names].items() <= line.items()
    if names is LogFields.OTEL:
        attributes = line["Attributes"]
        assert (attributes["http.request.method"], attributes["authz.reason"]) == ("GET", "barred")
        assert line["InstrumentationScope"] == {"Name": "authz.decision"}


@pytest.mark.parametrize("names", LogFields)
def test_a_key_is_masked_and_a_long_line_cut_under_every_name(
    names: LogFields, capfd: pytest.CaptureFixture[str]
) -> None:
    log = logs.configure("info", FORMAT.pattern, names)
    logging.getLogger("authz").warning("with %s", KEY, extra={KEY: KEY, "what": f"with {KEY}"})
    logging.getLogger("authz").warning("long %s", KEY, extra={"what": "x" * 100_000})
    first, second = written(log, capfd)
    assert KEY not in json.dumps([first, second])
    assert json.dumps(first).count("[api key]") == 4
    assert len(json.dumps(second)) < 2_000
    assert "cut_bytes" in json.dumps(second)


@pytest.mark.parametrize("names", [LogFields.ECS, LogFields.OTEL])
def test_no_field_is_lost_and_none_hides_another(names: LogFields) -> None:
    rename = rename_to(names)
    assert rename is not None
    ours = ("timestamp", "level", "logger", "event", "request_id", "method", "route", "source_address", "account_id")
    others = (
        "key_id",
        "decision",
        "reason",
        "trace_id",
        "span_id",
        "error",
        "exception",
        "message",
        "@timestamp",
        "Body",
    )
    fields = {name: f"value of {name}" for name in (*ours, *others)}
    found = json.dumps(rename(fields))
    assert all(json.dumps(value) in found for value in fields.values())
