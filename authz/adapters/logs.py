"""Logging of the process: one JSON object a line on standard output, with API keys masked everywhere.

The callers decide what is logged. The fields of a line are the `extra` of the standard library's loggers. No call waits
for the output, which is in `log_writer.py`.
"""

import asyncio
import logging
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from authz.adapters.log_fields import LogFields, Rename, rename_to
from authz.adapters.log_limits import LineLimits
from authz.adapters.log_writer import LogWriter, duplicate_stdout

_MASK = b"[api key]"
_LINE = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
_NOTHING = r"(?!)"
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "color_message"}
# JSON escapes those of ASCII. Many readers of lines also split them at these (Unicode Standard, section 5.8).
_CONTROLS = re.compile("[\x80-\x9f\u2028\u2029]")
_LINE_BYTES_MAX = 32_768
_EVENT_CHARS_MAX = 1_000
_BATCH_LINES_MAX = 256
_FREQUENT_SHARE = 0.75  # the rest of the queue is for lines that are not written by the thousand
_CLOSE_S = 1.0

_log = logging.getLogger("authz.logs")


class ProcessLog:
    """The log of the process, after `configure`."""

    def __init__(self, level: str, key_pattern: str, rename: Rename | None = None) -> None:
        self._rename = rename
        self._configured = self._level = logging.getLevelNamesMapping()[level.upper()]
        self._mask = KeyMask(key_pattern)
        self._writer = LogWriter(duplicate_stdout(), rename=rename)
        self._limits = LineLimits()
        self.handler: logging.Handler = _Handler(self._writer, self._mask, self._limits, rename)

    def line_writer(self, name: str) -> "LineWriter | None":
        """Create a writer of frequent lines; None where the level excludes lines of level info."""
        return None if self._level > logging.INFO else LineWriter(name, self._mask, self._writer, self._rename)

    def switch_level(self) -> str:
        """Change the level to debug, and from there back to the configured one; return its name."""
        self._level = self._configured if self._level == logging.DEBUG else logging.DEBUG
        logging.getLogger().setLevel(self._level)
        return logging.getLevelName(self._level).lower()

    def mask(self, key_pattern: str) -> None:
        """Mask text that matches `key_pattern` too, from now on."""
        self._mask.add(key_pattern)

    def masked(self, text: str) -> str:
        """Return a text without API keys."""
        return self._mask(text.encode()).decode()

    def dropped(self) -> Mapping[str, int]:
        """Return the number of lines that were not written, by cause."""
        return {**self._writer.dropped, "rate_limited": self._limits.total}

    def close(self, deadline_s: float = _CLOSE_S) -> None:
        """Write what is queued, as far as that is possible within `deadline_s`."""
        self._writer.close(deadline_s)


def configure(level: str, key_pattern: str, names: LogFields = LogFields.AUTHZ) -> ProcessLog:
    """Set up logging for the whole process, libraries included.

    `level` is the name of a logging level, `names` whose names the fields have. Text that matches `key_pattern` is
    masked in every field and traceback. Warnings and exceptions of threads and finalizers are logged too, because
    standard error may block as well.
    """
    log = ProcessLog(level, key_pattern, rename_to(names))
    logging.basicConfig(handlers=[log.handler], level=level.upper(), force=True)
    logging.getLogger("hpack").setLevel(logging.INFO)  # at debug it writes every header of every client
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_thread_exception
    return log


def silence() -> None:
    """Disable logging: a command reports by its output and its exit code."""
    logging.basicConfig(handlers=[logging.NullHandler()], level=logging.CRITICAL, force=True)


class KeyMask:
    """Replaces API keys in serialised lines. Defence in depth: no code logs a key on purpose."""

    def __init__(self, pattern: str = _NOTHING) -> None:
        self._patterns = [pattern]
        self._compile()

    def add(self, pattern: str) -> None:
        """Mask the keys of another pattern too."""
        if pattern not in self._patterns:
            self._patterns.append(pattern)
            self._compile()

    def __call__(self, lines: bytes) -> bytes:
        """Return lines without keys, and without characters that end a line or control a terminal outside of ASCII."""
        masked = self._key.sub(_MASK, lines)
        if masked.isascii():
            return masked
        return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", masked.decode()).encode()

    def _compile(self) -> None:
        self._key = re.compile("|".join(f"(?:{pattern})" for pattern in self._patterns).encode())


class _Handler(logging.Handler):
    """Serialises records as one line of JSON each, and queues them; at most so many of one kind a second."""

    def __init__(self, writer: LogWriter, mask: KeyMask, limits: LineLimits, rename: Rename | None = None) -> None:
        super().__init__()
        self._rename = rename or _same
        self._writer = writer
        self._mask = mask
        self._limits = limits

    def emit(self, record: logging.LogRecord) -> None:
        kind = (record.name, record.levelno, record.msg if isinstance(record.msg, str) else type(record.msg))
        suppressed = self._limits.admit(kind)
        if suppressed is None:
            return
        try:
            self._writer.put(self._line(record, suppressed), 1)
        except Exception:  # noqa: BLE001 -- a record that cannot be serialised must not break the caller
            fields = {"event": "log record cannot be serialised", "level": "error", "logger": record.name}
            self._writer.put(orjson.dumps(self._rename(fields), option=_LINE), 1)

    def _line(self, record: logging.LogRecord, suppressed: int) -> bytes:
        fields: dict[str, Any] = {"event": record.getMessage()}
        fields |= {name: value for name, value in vars(record).items() if name not in _OWN}
        known: dict[str, Any] = {
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC),
        }
        if suppressed:
            known["suppressed"] = suppressed
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        line = self._mask(orjson.dumps(self._rename(fields | known), default=str, option=_LINE))
        if len(line) > _LINE_BYTES_MAX:  # cut after masking: a part of a key would not match
            event = self._mask(str(fields["event"]).encode()).decode()[:_EVENT_CHARS_MAX]
            line = orjson.dumps(self._rename({"event": event, "cut_bytes": len(line)} | known), option=_LINE)
        return line


class LineWriter:
    """A faster logger for frequent lines of level info: the same JSON at a tenth of the cost.

    Call it with the fields of a line, to which it adds. The lines of one turn of the event loop are queued together.
    """

    def __init__(self, name: str, mask: KeyMask, writer: LogWriter, rename: Rename | None = None) -> None:
        self._rename = rename
        self._name = name
        self._mask = mask
        self._writer = writer
        self._lines: list[bytes] = []

    def __call__(self, fields: dict[str, Any]) -> None:
        """Write one line."""
        fields |= {"level": "info", "logger": self._name, "timestamp": datetime.now(UTC)}
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        if self._rename is not None:
            fields = self._rename(fields)
        self._lines.append(orjson.dumps(fields, option=_LINE))
        if len(self._lines) >= _BATCH_LINES_MAX:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            count, lines = len(self._lines), self._mask(b"".join(self._lines))
            self._lines.clear()
            self._writer.put(lines, count, share=_FREQUENT_SHARE)


def _same(fields: dict[str, Any]) -> dict[str, Any]:
    return fields


def _log_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    error = unraisable.exc_value
    _log.error("exception in a finalizer", exc_info=(unraisable.exc_type, error, unraisable.exc_traceback))  # type: ignore[arg-type]  # as the library gives them


def _log_thread_exception(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_type is not SystemExit:
        error = (failed.exc_type, failed.exc_value, failed.exc_traceback)
        _log.error("exception in a thread", exc_info=error)  # type: ignore[arg-type]  # as the library gives them
