"""A rule, and what it finds in a configuration.

The rules themselves are in the modules beside; how findings are printed is the command's.
"""

from dataclasses import dataclass
from enum import StrEnum

from authz.core.envoy_rules.node import Node, Path


class Severity(StrEnum):
    """How grave a finding is. An error breaks a promise of authz or a function; a note is advice."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """The order: an error has the lowest rank."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its stable id, its usual severity, what it requires, why, and the setting that meets it."""

    id: str
    severity: Severity
    title: str
    why: str
    fix: str

    def at(self, node: Node, what: str, severity: Severity | None = None, fix: str = "") -> "Finding":
        """Return a finding at a value of the configuration."""
        return Finding(self, severity or self.severity, node.path, what, fix or self.fix)


@dataclass(frozen=True, slots=True)
class Finding:
    """A breach of a rule: where, and what is there. `line` is 0 where it is not known."""

    rule: Rule
    severity: Severity
    path: Path
    what: str
    fix: str
    line: int = 0
