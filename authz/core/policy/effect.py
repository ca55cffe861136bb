"""The effect of a policy change in a few lines, for the log.

The comparison itself is `diff.py`.
"""

from dataclasses import dataclass

from authz.core.policy.diff import Change, compare
from authz.core.policy.policy import Policy

_LINES_MAX, _LINE_CHARS_MAX = 20, 300
_REQUESTS_MAX, _NAMES_MAX = 3, 6


@dataclass(frozen=True, slots=True)
class Effect:
    """How many changes open and close, and a line for each of the first ones, openings first."""

    opens: int = 0
    closes: int = 0
    lines: tuple[str, ...] = ()


NO_EFFECT = Effect()
"""The effect of a policy that is not new."""


def effect(old: Policy, new: Policy) -> Effect:
    """Compare two policies."""
    found = compare(old, new)
    lines = [f"opens: {text}" for text in found.loosens]
    lines += [_line(change) for change in found.changes] + found.surroundings
    opens = sum(change.is_opening for change in found.changes) + len(found.loosens)
    closes = sum(bool(change.closes or change.binds) for change in found.changes)
    shown = [line[:_LINE_CHARS_MAX] for line in lines[:_LINES_MAX]]
    if len(lines) > _LINES_MAX:
        shown.append(f"and {len(lines) - _LINES_MAX} more")
    return Effect(opens, closes, tuple(shown))


def _line(change: Change) -> str:
    parts = [
        f"{verb} {_listed(names, _NAMES_MAX)}"
        for verb, names in (
            ("opens to", change.opens),
            ("no longer checks", change.frees),
            ("closes to", change.closes),
            ("now checks", change.binds),
            ("changes", change.alters),
        )
        if names
    ]
    requests = [f"{','.join(methods)} {path}" for path, methods in change.requests.items()]
    return f"{_listed(requests, _REQUESTS_MAX)}: {'; '.join(parts)}"


def _listed(names: tuple[str, ...] | list[str], count_max: int) -> str:
    more = len(names) - count_max
    return ", ".join(names[:count_max]) + (f" and {more} more" if more > 0 else "")
