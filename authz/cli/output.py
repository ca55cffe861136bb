"""The output of the operator's commands: tables for terminals, plain lines for pipes, JSON, and notes.

Text from users is never markup, and its control characters are escaped. Errors are `failures.py`.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from authz.core.text import is_shown_alone

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
After = Annotated[str, typer.Option("--after", help="The id of the last row of the page before.")]
PageRows = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Rows of a page.")]

_BOX_WIDTH_MIN = 60  # a narrower one shows plain help
_WIDTH_MIN = 100  # a narrower terminal shows one field per line
# Without word boundaries: a key may follow a digit, an underscore or any letter, and be a part of a URL.
_SECRET = re.compile(
    r"((?:[A-Za-z][A-Za-z0-9]{0,15}(?:_|%5[Ff])){1,4})[0-9A-Za-z]{20,}(?:[0-9A-Za-z_]|%5[Ff])*([0-9A-Za-z]{4})"
)
_quiet = False


def set_up(*, quiet: bool = False) -> None:
    """Prepare the output: characters that the terminal's encoding lacks are escaped, `quiet` omits notes."""
    global _quiet  # noqa: PLW0603 -- one option of the whole process
    _quiet = quiet
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def safe(text: str) -> str:
    """Escape control and other invisible characters, which a terminal would obey or hide."""
    return "".join(char if is_shown_alone(char) or char in _JOINERS else _escaped(char) for char in text)


def masked(text: str) -> str:
    """Mask API keys in a message; their prefix and last four characters stay."""
    return _SECRET.sub(r"\1…\2", text)


def write(text: str) -> None:
    """Write a line to standard output at once; raises `OSError` if it cannot be written."""
    if sys.stdout is None:
        raise OSError("standard output is closed")
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 -- the interpreter flushes it again at its end
        raise


def note(text: str) -> None:
    """Write a note to standard error, unless `--quiet`."""
    if not _quiet:
        error(text)


def error(text: str) -> None:
    """Write a line to standard error; a closed one is ignored."""
    if sys.stderr is not None:
        try:
            sys.stderr.write("".join(f"{safe(line)}\n" for line in masked(text).splitlines()))
            sys.stderr.flush()
        except OSError:
            sys.stderr = None  # as above


def done(fields: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print the result of a change, as JSON or as a line."""
    write(json.dumps(fields) if as_json else safe(text))


def show(values: Sequence[Any], columns: Sequence[str], *, as_json: bool) -> None:
    """Print values: a table at a terminal, tab-separated lines elsewhere, or JSON with all fields."""
    if as_json:
        write(json.dumps([plain(value) for value in values]))
        return
    rows = [[_cell(plain(value)[column]) for column in columns] for value in values]
    if not _is_terminal():
        for row in rows:
            write("\t".join(row))
        return
    _print_at_terminal(columns, rows)


def show_page(values: Sequence[Any], rows_max: int, columns: Sequence[str], *, as_json: bool) -> None:
    """Print a page of values; one value more than `rows_max` means that another page follows."""
    show(values[:rows_max], columns, as_json=as_json)
    if len(values) > rows_max:
        note(f"there are more: --after {values[rows_max - 1].id}")


def plain(value: Any) -> Any:  # noqa: ANN401 -- any value that can be converted for JSON
    """Convert a value for JSON: times to ISO 8601, sets to sorted lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(inner) for name, inner in asdict(value).items()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, frozenset):
        return sorted(value)
    return value


def moment(at: datetime) -> str:
    """Format a time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def plain_help_columns() -> int | None:
    """Return the width of help without boxes, which a narrow terminal would cut and a pipe has no use for, or None."""
    columns = shutil.get_terminal_size().columns
    return None if _is_terminal() and columns >= _BOX_WIDTH_MIN else columns


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _print_at_terminal(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 -- only a terminal needs it
    from rich.table import Table  # noqa: PLC0415 -- the same
    from rich.text import Text  # noqa: PLC0415 -- the same

    console = Console(highlight=False, markup=False, emoji=False)
    if console.width < _WIDTH_MIN and len(columns) > _FEW_COLUMNS:
        _print_records(console.print, columns, rows)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(Text(column), overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _print_records(print_line: Callable[..., None], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as lines of column and value, which fit 40 columns."""
    width = max(map(len, columns))
    for index, row in enumerate(rows):
        if index:
            print_line("")
        for column, cell in zip(columns, row, strict=True):
            print_line(f"{column:<{width}}  {cell}", soft_wrap=True)


def _cell(value: Any) -> str:  # noqa: ANN401 -- any JSON
    if value is None:
        return "-"
    return safe(" ".join(value) if isinstance(value, list) else str(value))


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


_FEW_COLUMNS = 3
_JOINERS = {"\N{ZERO WIDTH JOINER}", "\N{ZERO WIDTH NON-JOINER}"}
