"""Reads the base path and the host of the `servers` of OpenAPI 3.

The first server counts: a policy is about one API, and rows for the base paths of others would open more than it has.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from authz.adapters.api_files.references import mapping, sequence

_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?P<host>[^/?#]*)(?P<path>[^?#]*).*", re.DOTALL)
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_SERVERS_MAX = 50
_URL_CHARS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Base:
    """A base path without its last slash, the host, and the doubts about them."""

    path: str = ""
    host: str = ""
    doubts: list[str] = field(default_factory=list)


def base_path_of(part: Mapping[str, Any]) -> Base:
    """Return the base of the first server of a document, a path or an operation."""
    found = [_base(mapping(it)) for it in sequence(part.get("servers"))[:_SERVERS_MAX]]
    if not found:
        return Base()
    first = found[0]
    others = sorted({base.path or "/" for base in found[1:]} - {first.path or "/"})
    if not others:
        return first
    doubt = (
        f"other servers have the base path {', '.join(others)}: rows have that of the first one, {first.path or '/'}"
    )
    return Base(first.path, first.host, [*first.doubts, doubt])


def without_slash(path: str) -> str:
    """Return a base path with a slash before it and none after it; the root is empty."""
    bare = path.strip("/")
    return f"/{bare}" if bare else ""


def _base(server: Mapping[str, Any]) -> Base:
    url = server.get("url")
    if not isinstance(url, str):
        return Base()
    url = url[:_URL_CHARS_MAX]
    doubts: list[str] = []
    variables = mapping(server.get("variables"))

    def default(match: re.Match[str]) -> str:
        value = mapping(variables.get(match[1])).get("default")
        return value if isinstance(value, str) else match[0]

    filled = _VARIABLE.sub(default, url)[:_URL_CHARS_MAX]
    parts = _URL.fullmatch(filled)
    host, path = (parts["host"], parts["path"]) if parts else ("", re.split(r"[?#]", filled, maxsplit=1)[0])
    given = _URL.fullmatch(url)
    if "{" in (given["path"] if given else url):
        doubts.append(f"the base path of {url} depends on variables: rows have {without_slash(path) or '/'}")
    return Base(without_slash(path), host.rpartition("@")[2], doubts)
