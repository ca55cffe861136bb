"""Writes a new policy for the rows of a described API.

`insertion.py` adds rows to a policy that exists.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from authz.adapters.policy_writer.lines import comment, row_lines, scope_lines
from authz.core.imports.rows import Imported


@dataclass(frozen=True, slots=True)
class Identity:
    """What a policy says about its API and its keys, beside the table."""

    name: str
    domain: str
    header: str
    prefix: str
    capacity: int = 120
    refill_per_s: float = 2


def policy_text(found: Imported, identity: Identity, source: str) -> str:
    """Return the text of a policy; `source` is named in its first line."""
    return "\n".join(_lines(found, identity, source)) + "\n"


def _lines(found: Imported, identity: Identity, source: str) -> Iterator[str]:
    operations = sum(len(row.operations) for row in found.rows)
    yield comment(
        f"Imported from {source} with `authz policy import`: {operations} operations in {len(found.rows)} rows."
    )
    yield "# The comments on rows are what a person has to decide; `authz policy explain` shows what a request needs."
    yield from (comment(f"Note: {doubt}") for doubt in found.doubts)
    yield "version: 1"
    yield f"api: {{name: {identity.name}, domain: {identity.domain}}}"
    yield f"keys: {{header: {identity.header}, prefix: {identity.prefix}, active_max: 25}}"
    yield f"limit: {{capacity: {identity.capacity}, refill_per_s: {identity.refill_per_s:g}}}"
    yield ""
    yield "scopes:" if found.scopes else "scopes: {}"
    yield from (f"  {line}" for line in scope_lines(found.scopes))
    yield ""
    yield "routes:"
    yield from (f"  {line}" for line in row_lines(found.rows, found.omitted))
