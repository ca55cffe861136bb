"""What an alert consists of: its expression, its page in the runbook, and the series that prove it.

The alerts are in `alerts_stores.py`, `alerts_process.py`, `alerts_callers.py` and `slo.py`; `write_files.py` writes the files.
"""

from dataclasses import dataclass, field
from enum import StrEnum

PAGE, TICKET = "page", "ticket"


class Kind(StrEnum):
    """How a series of a test changes: a gauge has its value, a counter grows by it each minute."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Series:
    """A series of a test: its value while all is well, and during the fault."""

    name: str
    well: float
    fault: float
    kind: Kind = Kind.GAUGE


@dataclass(frozen=True, slots=True)
class Timeline:
    """The phases of a test in minutes: all is well, then the fault, then all is well again. One sample each `step`."""

    well: int = 30
    fault: int = 30
    after: int = 40
    step: int = 1


@dataclass(frozen=True, slots=True)
class Runbook:
    """What an operator reads about an alert."""

    meaning: str
    clients: str
    confirm: str
    act: str
    over: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: `expr` must hold for `wait`. `labels` are those that the expression keeps, in its test."""

    name: str
    expr: str
    wait: str
    severity: str
    summary: str
    runbook: Runbook
    series: tuple[Series, ...]
    labels: dict[str, str] = field(default_factory=dict)
    timeline: Timeline = Timeline()


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule."""

    name: str
    expr: str
