"""The trace context of a call, as W3C has it: which trace and span it belongs to, and whether the caller records it.

How it arrives is the listeners' concern, and what is recorded that of an adapter.
"""

import re
from typing import NamedTuple, Protocol

# https://www.w3.org/TR/trace-context/#traceparent-header; other versions may have more behind it
_CONTEXT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1


class TraceContext(NamedTuple):
    """The trace that a call belongs to: ids in hexadecimal, and whether the caller records it."""

    trace_id: str
    span_id: str
    is_sampled: bool


def trace_context(traceparent: str) -> TraceContext | None:
    """Parse a W3C trace context; None for an invalid one."""
    found = _CONTEXT.fullmatch(traceparent)
    return None if found is None else TraceContext(found[1], found[2], bool(int(found[3], 16) & _SAMPLED))


class Traced(Protocol):
    """A call that may have a trace context."""

    @property
    def traceparent(self) -> str:
        """The W3C trace context of the caller, or an empty text."""
        ...

    @property
    def is_sampled(self) -> bool:
        """Whether the caller records its trace; much cheaper than to read the context."""
        ...
