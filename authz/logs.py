"""How the process logs: one JSON object a line on standard output, with API keys masked wherever they turn up.

What is worth a line is decided where it happens.
"""

import asyncio
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

_MASK = "[api key]"
_LINE = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
_NOTHING = r"(?!)"


def configure(level: str, key_pattern: str) -> None:
    """Set up logging for the whole process, libraries included.

    `level` is a logging level's name; text matching `key_pattern` is masked in every field and traceback.
    """
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _Redaction(key_pattern),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    out = logging.StreamHandler(sys.stdout)
    out.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[out], level=level.upper(), force=True)


class LineWriter:
    """A short cut for lines of level info that come by the thousand: the same JSON, for a tenth of the cost.

    Called with a line's fields, to which it adds. The lines of one turn of the event loop leave in one write.
    """

    def __init__(self, name: str, key_pattern: str) -> None:
        self._name = name
        self._key = re.compile(key_pattern.encode())
        self._out = sys.stdout.buffer
        self._lines: list[bytes] = []

    def __call__(self, fields: dict[str, Any]) -> None:
        """Write one line."""
        fields |= {"level": "info", "logger": self._name, "timestamp": datetime.now(UTC)}
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        self._lines.append(orjson.dumps(fields, option=_LINE))

    def _flush(self) -> None:
        lines = self._key.sub(_MASK.encode(), b"".join(self._lines))
        self._lines.clear()
        self._out.write(lines)
        self._out.flush()


def line_writer(name: str, level: str, key_pattern: str) -> LineWriter | None:
    """Make a writer of lines; None where `level` leaves lines of level info out."""
    if logging.getLevelNamesMapping()[level.upper()] > logging.INFO:
        return None
    return LineWriter(name, key_pattern)


def silence() -> None:
    """Log nothing: a command's output is what it prints, and its failures are exit codes."""
    configure("critical", _NOTHING)


class _Redaction:
    """The last line of defence: nothing is meant to log a key in the first place."""

    def __init__(self, key_pattern: str) -> None:
        self._key = re.compile(key_pattern)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = self._key.sub(_MASK, value)
        return event
