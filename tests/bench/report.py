"""The report of a bench run: figures by section and row, their ratios, and notes about the method.

The plots are in `plots.py`.
"""

import json
import os
import platform
import sys
from pathlib import Path

Row = dict[str, float]

UNEXPECTED_MAX = 0.01
"""The share of wrong answers above which figures are not to be believed."""


class Report:
    """Collects rows and ratios; written as `report.json` and `report.md`."""

    def __init__(self) -> None:
        self.sections: dict[str, dict[str, Row]] = {}
        self.ratios: dict[str, float] = {}
        self.notes: list[str] = []
        self.calls = 0
        self.unexpected = 0
        self.repeated = 0  # runs, because the host took the processors away meanwhile

    def row(self, section: str, name: str, row: Row) -> None:
        """Add a row of figures, each named with its unit."""
        self.sections.setdefault(section, {})[name] = row
        wrong_percent = row.get("wrong_percent", 0.0)
        if wrong_percent > UNEXPECTED_MAX * 100:
            self.note(f"{name}: {wrong_percent:.3g} % wrong answers, so neither the row nor its ratios say much.")

    def ratio(self, name: str, value: float) -> None:
        """Add a ratio, or another figure that a change is judged by."""
        self.ratios[name] = value

    def note(self, text: str) -> None:
        """Add something to know when reading the figures."""
        if text not in self.notes:
            self.notes.append(text)

    def count(self, calls: int, unexpected: int) -> None:
        """Count calls, and how many of them had an answer that was not right."""
        self.calls += calls
        self.unexpected += unexpected

    @property
    def is_sound(self) -> bool:
        """Return whether nearly every answer was right."""
        return self.unexpected <= self.calls * UNEXPECTED_MAX

    def write(self, folder: Path) -> None:
        """Write both files."""
        folder.mkdir(parents=True, exist_ok=True)
        document = {
            "ratios": self.ratios,
            "figures": self.sections,
            "calls": self.calls,
            "unexpected": self.unexpected,
            "notes": self.notes,
            "repeated": self.repeated,
            "machine": {"cpus": os.cpu_count(), "system": platform.system(), "python": interpreter()},
        }
        (folder / "report.json").write_text(json.dumps(document, indent=2) + "\n")
        (folder / "report.md").write_text(self.as_markdown())

    def as_markdown(self) -> str:
        """Write the report as tables."""
        lines = ["# What a check costs", "", "| ratio | |", "|---|--:|"]
        lines += [f"| {name} | {value:.3g} |" for name, value in self.ratios.items()]
        for section, rows in self.sections.items():
            columns = list(dict.fromkeys(column for row in rows.values() for column in row))
            lines += ["", f"## {section}", "", f"| | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
            for name, row in rows.items():
                lines.append(f"| {name} | {' | '.join(_cell(row, column) for column in columns)} |")
        share = self.unexpected / max(1, self.calls)
        lines += ["", f"{self.calls:,} calls, {share:.4%} of them with another answer than expected."]
        repeated = f"{self.repeated} runs were repeated, because the host took the processors away meanwhile."
        lines += [f"- {note}" for note in (f"Python {interpreter()}.", repeated, *self.notes)]
        return "\n".join(lines) + "\n"


def interpreter() -> str:
    """Name the Python that everything of ours runs on: some are built for speed, and some are not."""
    return f"{platform.python_version()} of {Path(sys.executable).resolve()}"


def _cell(row: Row, column: str) -> str:
    if column not in row:
        return ""
    value = row[column]
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
