"""What the doctor finds: one line for each question, and whether the answer is a fault.

The questions are in the modules beside this one.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Whether something is right. A warning does not change the exit code."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question; `detail` is a sentence for people, `facts` are the figures of it."""

    name: str
    state: State
    detail: str
    facts: dict[str, Any] = field(default_factory=dict)


def judged(name: str, fault: str, detail: str, facts: dict[str, Any]) -> Finding:
    """Return what is wrong with `fault` in front of the detail, or fine without one."""
    state = State.WRONG if fault else State.OK
    return Finding(name, state, f"{fault}; {detail}" if fault else detail, facts)


def ms(seconds: float) -> float:
    """Return milliseconds with three digits behind the point."""
    return round(seconds * 1000, 3)
