"""Reads the base paths and the hosts of the `servers` of OpenAPI 3, of a document, a path or an operation.

Every server counts, because a row for one base path decides nothing at another. A variable with a list of values stands
for each of them, one without for its default.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from authz.adapters.api_files.references import mapping, sequence

BASES_MAX = 20
_URL = re.compile(r"(?:[^/?#]*:)?//(?P<host>[^/?#]*)(?P<path>[^?#]*).*", re.DOTALL)
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_SERVERS_MAX = 50
_URL_CHARS_MAX = 2_000
_VARIABLES_MAX = 20
_VALUES_MAX = 100
_COMBINATIONS_MAX = 500


@dataclass(frozen=True, slots=True)
class Bases:
    """The base paths without their last slashes, at least one and each once, the hosts, and the doubts about them."""

    paths: tuple[str, ...] = ("",)
    hosts: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def bases_of(part: Mapping[str, Any]) -> Bases | None:
    """Return the bases of the servers of a document, a path or an operation; None if it names no server."""
    servers = sequence(part.get("servers"))
    paths: dict[str, None] = {}
    hosts: dict[str, None] = {}
    doubts: dict[str, None] = {}
    for server in servers[:_SERVERS_MAX]:
        url = mapping(server).get("url")
        if not isinstance(url, str):
            doubts["a server without a url has no rows"] = None
            continue
        found = _bases(url[:_URL_CHARS_MAX], mapping(mapping(server).get("variables")))
        paths |= dict.fromkeys(found.paths)
        hosts |= dict.fromkeys(found.hosts)
        doubts |= dict.fromkeys(found.doubts)
    if not paths:
        return Bases(doubts=tuple(doubts)) if doubts else None
    if len(paths) > BASES_MAX or len(servers) > _SERVERS_MAX:
        doubts[f"the servers have more than {BASES_MAX} base paths: the others have no rows"] = None
    kept = tuple(paths)[:BASES_MAX]
    if len(kept) > 1:
        doubts[f"the servers have the base paths {_listed(kept)}: each operation has a row for each"] = None
    return Bases(kept, tuple(hosts), tuple(doubts))


def without_slash(path: str) -> str:
    """Return a base path with a slash before it and none after it; the root is empty."""
    bare = path.strip("/")
    return f"/{bare}" if bare else ""


def _without_dots(path: str) -> str:
    """Resolve dot segments as RFC 3986 does (5.2.4)."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept)


def _listed(paths: tuple[str, ...]) -> str:
    return ", ".join(path or "/" for path in paths)


def _bases(url: str, variables: Mapping[str, Any]) -> Bases:
    """Return the bases of one server."""
    paths: dict[str, None] = {}
    hosts: dict[str, None] = {}
    doubts: list[str] = []
    written = _URL.fullmatch(url)
    listed = _VARIABLE.findall(written["path"] if written else url)
    for filled in _filled(url, variables, listed):
        parts = _URL.fullmatch(filled)
        host, path = (parts["host"], parts["path"]) if parts else ("", re.split(r"[?#]", filled, maxsplit=1)[0])
        paths[without_slash(_without_dots(path))] = None
        hosts |= dict.fromkeys(filter(None, [host.rpartition("@")[2]]))
        if not parts and path.startswith("."):
            doubts.append(f"the server {url} is relative to the address of the description, taken as the root here")
    if any(not _values(variables, name)[1] for name in listed):
        doubts.append(f"the base path of {url} depends on variables: rows have {_listed(tuple(paths))}")
    return Bases(tuple(paths), tuple(hosts), tuple(dict.fromkeys(doubts)))


def _filled(url: str, variables: Mapping[str, Any], listed: list[str]) -> Iterator[str]:
    """Yield an address with the values of its variables: all of those listed, and one of each other."""
    names = list(dict.fromkeys(_VARIABLE.findall(url)))[:_VARIABLES_MAX]
    choices = [_values(variables, name)[0] for name in names]
    choices = [found if name in listed else found[:1] for name, found in zip(names, choices, strict=True)]
    for values in islice(product(*choices), _COMBINATIONS_MAX):
        chosen = dict(zip(names, values, strict=True))
        yield _VARIABLE.sub(lambda match: chosen.get(match[1], match[0]), url)[:_URL_CHARS_MAX]  # noqa: B023 -- used at once


def _values(variables: Mapping[str, Any], name: str) -> tuple[list[str], bool]:
    """Return the values of a variable, its default first, and whether these are all; itself if it has none."""
    variable = mapping(variables.get(name))
    default = variable.get("default")
    values = [it for it in sequence(variable.get("enum"))[:_VALUES_MAX] if isinstance(it, str)]
    found = dict.fromkeys([*([default] if isinstance(default, str) else []), *values])
    return list(found) or [f"{{{name}}}"], bool(values)
