"""The Markdown of the generated pages: titles, paragraphs and tables."""

from collections.abc import Iterable, Sequence
from textwrap import wrap

_TEXT_COLUMNS = 120
_NOTE = "Generated from the code by `make docs`: do not edit.\n"


def sentence(text: str) -> str:
    """Return a text as a sentence."""
    return f"{text[0].upper()}{text[1:]}."


def head(title: str, text: str) -> list[str]:
    """Return the title of a page, its note and its first paragraph."""
    return [f"# {title}", "", _NOTE, *paragraph(text), ""]


def paragraph(text: str) -> list[str]:
    """Return a paragraph as lines."""
    return wrap(text, _TEXT_COLUMNS, break_long_words=False, break_on_hyphens=False)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as lines."""
    return [_row(heads), "|---" * len(heads) + "|", *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def code(text: str) -> str:
    """Return a text as code; nothing for no text."""
    return f"`{text}`" if text else ""
