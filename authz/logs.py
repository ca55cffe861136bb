"""How the process logs: one JSON object a line on standard output, with API keys masked wherever they turn up.

What is worth a line is decided where it happens.
"""

import logging
import re
import sys

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

_MASK = "[api key]"
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
