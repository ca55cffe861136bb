"""Figures that tests and measurements note, written as JSON and as a Markdown table."""

import json
from pathlib import Path

Rows = dict[str, dict[str, float]]

FOLDER = Path("build/streams")


class Figures:
    """Rows of figures by event."""

    def __init__(self) -> None:
        self.rows: Rows = {}

    def note(self, what: str, **figures: float) -> None:
        """Add a row."""
        self.rows[what] = figures

    def write(self, name: str, title: str) -> None:
        """Write the rows into `build/streams`."""
        write(name, {title: self.rows})


def write(name: str, tables: dict[str, Rows]) -> str:
    """Write tables as `NAME.json` and `NAME.md`; returns the latter."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(tables, indent=2) + "\n")
    text = "\n".join(_table(title, rows) for title, rows in tables.items() if rows)
    (FOLDER / f"{name}.md").write_text(text)
    return text


def _table(title: str, rows: Rows) -> str:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [f"| {title} | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    for what, row in rows.items():
        cells = [f"{row[column]:.3g}" if column in row else "" for column in columns]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
