"""Every line is JSON, and an API key in it is masked."""

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from urllib.parse import unquote

import pytest
from hpack import Decoder, Encoder
from msgspec.structs import replace
from support.builders import FORMAT, KEY, ROUTES, request, take

from authz.adapters import logs
from authz.adapters.decision_log import DecisionLog
from authz.core.check import Allow, Deny, Principal
from authz.core.errors import DenyReason
from authz.core.text import without_key


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


def test_no_library_writes_headers_at_level_debug(written: Written) -> None:
    log = written.log
    assert log.switch_level() == "debug"
    Decoder().decode(Encoder().encode([("x-a-header", "s3cret-text")]))
    logging.getLogger("authz").debug("shown")
    assert [line["event"] for line in written.lines()] == ["shown"]


async def test_a_key_in_a_decision_line_is_masked(written: Written) -> None:
    written.decisions(sample=0).decided([(1, request(KEY), Deny(DenyReason.METHOD_REFUSED))], 0.001)
    await asyncio.sleep(0)
    (line,) = written.lines()
    assert line["method"] == "[api key]"


SPELLINGS = {
    "lower case": KEY.lower(),
    "upper case": KEY.upper(),
    "another prefix": f"sk_live_{KEY[4:]}",
    "no prefix": KEY[4:],
    "percent-encoded": "".join(f"%{ord(letter):02x}" for letter in KEY),
    "in part percent-encoded": KEY.replace("_", "%5F"),
    "every other letter": "".join(f"%{ord(one):02X}{other}" for one, other in zip(KEY[::2], KEY[1::2], strict=False)),
    "twice": f"{KEY},{KEY}",
    "among words": f"Bearer {KEY};q=1",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=list(SPELLINGS))
async def test_no_spelling_of_a_key_is_logged_where_a_caller_chooses_the_text(written: Written, spelling: str) -> None:
    asked = replace(
        request(), method=spelling, x_request_id=spelling.encode(), target=f"/{spelling}", call=Traced(spelling)
    )
    written.decisions(sample=0).decided([(1, asked, Deny(DenyReason.METHOD_REFUSED))], 0.001)
    await asyncio.sleep(0)
    text = written.text()
    line = json.loads(text)
    assert "[api key]" in line["method"]
    assert "[api key]" in line["request_id"]
    for shown in (text, unquote(text)):
        assert KEY[10:30].lower() not in shown.lower()
        assert KEY[-20:].lower() not in shown.lower()


def test_an_id_of_a_request_that_can_be_no_key_is_logged() -> None:
    for text in ("4f1d2a7e-0b1c-4d9a-9a1e-2f3c4d5e6f70", "a" * 48, "x%20y", "Root=1-67891233-abcdef012345678912345678"):
        assert without_key(text) == text


HOSTILE = {
    "line ends": 'x"}\r\n{"event": "decision", "decision": "allow"}',
    "colours": "\x1b[2J\x1b]0;title\x07",
    "control characters of Latin-1": "\x9b2J\x85",
    "line ends of Unicode": "a\u2028{}\u2029b",
    "no UTF-8": b"\xff\xfe\xc3".decode("latin-1"),
    "64 KiB": "/" + "x/" * 32_768,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
async def test_no_text_breaks_its_line_or_reaches_a_terminal(written: Written, text: str) -> None:
    asked = replace(
        request(), method=text, target=text, x_request_id=text.encode("utf-8", "replace"), call=Traced(text)
    )
    written.decisions(sample=0).decided([(1, asked, Deny(DenyReason.METHOD_REFUSED))], 0.001)
    logging.getLogger("authz").warning("%s", text, extra={"error": text})
    await asyncio.sleep(0)
    shown = written.text()
    assert sorted(json.loads(line)["level"] for line in shown.splitlines()) == ["info", "warning"]
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert len(shown) < 40_000


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
