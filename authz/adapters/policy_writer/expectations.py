"""Writes the expectations that a described API has of its policy: one request for each operation, by what it needs."""

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from authz.adapters.policy_writer.lines import comment
from authz.core.imports.operation import Operation
from authz.core.imports.rows import ImportedRow
from authz.core.policy.template import is_grpc

_SAMPLE = "sample"
_VARIABLE = re.compile(r"\{[^{}=]*(?:=([^{}]*))?\}")
_PLAIN = re.compile(r"[A-Z]+ /[A-Za-z0-9/._~-]*")
_KEPT = "-._~!$&'()*+,=:@/"


def expectations_text(rows: Iterable[ImportedRow], source: str) -> str:
    """Return the text of a file for `authz policy test`."""
    return "\n".join(_lines(rows, source)) + "\n"


def sample_request(operation: Operation) -> tuple[str, str]:
    """Return a method and a path that an operation answers."""
    if is_grpc(operation.path) and operation.method == "POST":
        return operation.method, operation.path
    bare = operation.path if operation.is_template else re.split(r"[?#](?![^{]*\})", operation.path, maxsplit=1)[0]
    number = 0

    def filled(match: re.Match[str]) -> str:
        nonlocal number
        number += 1
        pattern = match[1] if operation.is_template else None
        return (pattern or "*").replace("**", "*").replace("*", f"{_SAMPLE}{number}")

    path = _VARIABLE.sub(filled, bare)
    if operation.is_template:
        path = path.replace("**", _SAMPLE).replace("*", _SAMPLE)
    return operation.method, quote(path, safe=_KEPT)


def _lines(rows: Iterable[ImportedRow], source: str) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for row in rows:
        for operation in row.operations:
            groups.setdefault(row.scope or "public", []).append(" ".join(sample_request(operation)))
    yield comment(f"What the operations of {source} need. `authz policy test FILE` holds a policy against it.")
    yield "version: 1"
    yield "expectations:"
    for needs, requests in sorted(groups.items(), key=lambda it: it[0] == "public"):
        yield f"  - needs: {needs}"
        yield "    request:"
        for request in dict.fromkeys(requests):
            yield f"      - {request if _PLAIN.fullmatch(request) else json.dumps(request)}"
