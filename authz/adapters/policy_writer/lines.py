"""Lines of YAML for rows, scopes and remarks.

Text of a described API appears in comments and in quotes only, on one line and in printable characters, so that no
description can write a row.
"""

import json
from collections.abc import Iterable, Iterator, Mapping

from authz.core.imports.operation import Operation
from authz.core.imports.rows import ImportedRow
from authz.core.imports.scopes import ScopeDraft

_COMMENT_CHARS_MAX = 240
_REMARKS_MAX = 12


def comment(text: str) -> str:
    """Return a comment of one line."""
    line = "".join(char if char.isprintable() else "?" for char in text[: 2 * _COMMENT_CHARS_MAX])
    return f"# {line if len(line) <= _COMMENT_CHARS_MAX else line[: _COMMENT_CHARS_MAX - 1] + '…'}"


def quoted(text: str) -> str:
    """Return a text in double quotes, with what is not printable replaced."""
    return json.dumps("".join(char if char.isprintable() else "?" for char in text), ensure_ascii=False)


def scope_lines(scopes: Mapping[str, ScopeDraft]) -> Iterator[str]:
    """Yield a line for each scope, not indented."""
    for name, draft in scopes.items():
        write = ", write: true" if draft.write else ""
        yield f"{name}: {{description: {quoted(draft.description or name)}{write}}}"


def row_lines(
    rows: Iterable[ImportedRow], omitted: Iterable[tuple[Operation, str]] = (), *, host: str = ""
) -> Iterator[str]:
    """Yield groups of rows by scope, each row below its remarks; then what could not become a row. Not indented."""
    groups: dict[str, list[ImportedRow]] = {}
    for row in rows:
        groups.setdefault(row.scope, []).append(row)
    for scope, members in sorted(groups.items(), key=lambda it: not it[0]):
        yield f"- scope: {scope}" if scope else "- access: public  # the security is an empty list in the description"
        if host:
            yield f"  hosts: {quoted(host)}"
        yield "  match:"
        for row in members:
            yield from (f"    {comment(remark)}" for remark in row.remarks[:_REMARKS_MAX])
            yield f"    - {row.match}"
    for operation, reason in omitted:
        yield comment(f"no row for {operation.name}: {reason}")
