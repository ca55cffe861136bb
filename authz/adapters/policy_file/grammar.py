"""The fields that need a newer grammar than the first, so that a file of version 1 means the same everywhere.

What the fields mean is `document.py`.
"""

import re
from collections.abc import Iterator

from authz.adapters.policy_file.document import Document, Routes
from authz.core.errors import Problem

_BESIDE = re.compile(r"[^/ ]\{|\}[^/:]")
_NEEDS = "needs version: 2"
_OPTIONAL, _ERRORS = "optional", ("problem", "template")


def newer(document: Document) -> list[Problem]:
    """Return the use of every field that the version of a document does not have."""
    if document.version > 1:
        return []
    found = list(_sections(document))
    for number, group in enumerate(document.routes):
        found += [Problem(("routes", number, name), f"{text} {_NEEDS}") for name, text in _of_rows(group)]
    return found


def _sections(document: Document) -> Iterator[Problem]:
    for name in ("headers", "prefixes", "query"):
        if getattr(document.keys, name) is not None:
            yield Problem(("keys", name), f"{name} {_NEEDS}")
    further = ("hosts", "host_from", "include", "error_template", "limits", "key_limits", "plans")
    for name in ("errors", "base_path", "trailing_slash", *further):
        if name in document.model_fields_set:
            yield Problem((name,), f"{name} {_NEEDS}")


def _of_rows(group: Routes) -> Iterator[tuple[str, str]]:
    for name in ("all_of", "any_of", "hosts", "limits"):
        if getattr(group, name) is not None:
            yield name, name
    if group.access == _OPTIONAL:
        yield "access", _OPTIONAL
    if group.errors in _ERRORS:
        yield "errors", group.errors
    for match in group.match:
        if _BESIDE.search(match):
            yield "match", "a variable beside other text"
        if any("-" in part.partition("}")[0].partition("=")[0] for part in match.split("{")[1:]):
            yield "match", "a variable with a hyphen"
