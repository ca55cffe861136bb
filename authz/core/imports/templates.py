"""Paths of descriptions as templates of a policy: exact where the grammar can express them, else widened and flagged.

A widened template matches more paths than the description has, so no such row is public. `rows.py` sees to that.
"""

import re
from dataclasses import dataclass
from unicodedata import normalize

from authz.core.policy.path import SEGMENTS_MAX
from authz.core.policy.template import ANY_DEPTH, Template, is_grpc

_VARIABLE = re.compile(r"\{([^{}/]+)\}")
_GREEDY = re.compile(r"\{[+*]?([^{}/+*]+)[+*]?\}")
_SIMPLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_LITERAL = re.compile(r"[A-Za-z0-9\-._~!$&'()+,=@]+")
_VERB = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_FOREIGN = re.compile(r"[^A-Za-z0-9]+")
_BRACES = re.compile(r"(\{[^{}]*\})")
_NAME_CHARS_MAX = 60


class InexpressibleError(ValueError):
    """A path for which no template exists, however wide; the message says why."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A template, whether it matches more than the described path, and what a reader should know."""

    template: str
    is_wide: bool = False
    doubts: tuple[str, ...] = ()


def converted(path: str, method: str) -> Converted:
    """Convert a path; raises `InexpressibleError` and `TemplateError`."""
    path, doubts, is_wide = _cut(path)
    if not path.startswith("/"):
        raise InexpressibleError("the path does not start with a slash")
    segments = _segments(path[1:])
    if len(segments) > SEGMENTS_MAX:
        raise InexpressibleError(f"the path has more than {SEGMENTS_MAX} segments")
    if path == "/":
        return Converted("/", is_wide, tuple(doubts))
    is_open_ended = not segments[-1]
    if is_open_ended:
        segments.pop()
        doubts.append("widened: a template cannot end in a slash, so this row takes everything below its path")
    names: set[str] = set()
    parts: list[str] = []
    for number, segment in enumerate(segments):
        part, doubt, widens = _part(segment, number == len(segments) - 1 and not is_open_ended, names)
        parts.append(part)
        is_wide |= widens
        doubts += [doubt] if doubt else []
    template = f"/{'/'.join(parts)}{'/' + ANY_DEPTH if is_open_ended and not _ends_wide(parts) else ''}"
    return _checked(Converted(template, is_wide or is_open_ended, tuple(doubts)), method)


def _segments(path: str) -> list[str]:
    """Split a path at its slashes, except those within braces, which belong to a variable."""
    segments = [""]
    for number, part in enumerate(_BRACES.split(path)):
        if number % 2:
            segments[-1] += part
        else:
            first, *others = part.split("/")
            segments[-1] += first
            segments += others
    return segments


def _cut(path: str) -> tuple[str, list[str], bool]:
    """Remove the query or the fragment that some descriptions have in their paths."""
    bare = re.split(r"[?#](?![^{]*\})", path, maxsplit=1)[0]
    if bare == path:
        return path, [], False
    return bare, ["widened: a row has no query and no fragment"], True


def _ends_wide(parts: list[str]) -> bool:
    return bool(parts) and parts[-1].endswith((ANY_DEPTH, f"{ANY_DEPTH}}}"))


def _checked(found: Converted, method: str) -> Converted:
    """Parse the result as a policy does; a path that looks like a gRPC method is widened unless it is a POST."""
    if is_grpc(found.template) and method != "POST":
        first, _, rest = found.template[1:].partition("/")
        doubt = f"widened: {first}/{rest} reads as a gRPC method, which is a POST"
        found = Converted(f"/{{service}}/{rest}", is_wide=True, doubts=(*found.doubts, doubt))
    Template.parse(found.template)
    return found


def _part(segment: str, is_last: bool, names: set[str]) -> tuple[str, str, bool]:  # noqa: FBT001 -- of one call
    """Return the part of a template for a segment, the doubt about it, and whether it is wider."""
    if not segment:
        raise InexpressibleError("an empty segment, and requests with one are refused")
    if segment in {".", ".."}:
        raise InexpressibleError("a dot segment, and requests with one are refused")
    whole = _VARIABLE.fullmatch(segment)
    if whole and _SIMPLE.fullmatch(whole[1]):
        return f"{{{_unique(whole[1], names)}}}", "", False
    if greedy := _GREEDY.fullmatch(segment):
        return _renamed(segment, greedy[1], names, is_last=is_last)
    if _LITERAL.fullmatch(segment):
        return segment, "", False
    if is_last and ":" in segment:
        return _with_verb(segment, names)
    name = _unique(_named(segment), names)
    return f"{{{name}}}", f"widened: {segment} is any one segment here", True


def _renamed(segment: str, inner: str, names: set[str], *, is_last: bool) -> tuple[str, str, bool]:
    name = _unique(_named(inner), names)
    if segment == f"{{{inner}}}":
        return f"{{{name}}}", f"renamed: {segment} is {{{name}}} here", False
    if not is_last:
        return f"{{{name}}}", f"narrowed: {segment} may span segments, and is one segment here", False
    return f"{{{name}={ANY_DEPTH}}}", f"widened: {segment} is everything that follows", True


def _with_verb(segment: str, names: set[str]) -> tuple[str, str, bool]:
    """Return a last segment with a colon: an id or a word with a custom verb, or else everything that follows."""
    head, _, verb = segment.rpartition(":")
    if head and ":" not in head and _VERB.fullmatch(verb) and not set("{}") & set(verb):
        part, doubt, widens = _part(head, False, names)
        return f"{part}:{verb}", doubt, widens
    name = _unique(_named(segment), names)
    doubt = f"widened: {segment} has a colon that a template cannot express, so this row takes everything that follows"
    return f"{{{name}={ANY_DEPTH}}}", doubt, True


def _named(text: str) -> str:
    """Make a variable name of any text."""
    words = [word for word in _FOREIGN.split(normalize("NFKD", text)) if word]
    name = "_".join(words)[:_NAME_CHARS_MAX]
    return name if name and not name[0].isdigit() else f"part_{name}".rstrip("_")


def _unique(name: str, names: set[str]) -> str:
    number, candidate = 1, name
    while candidate in names:
        number += 1
        candidate = f"{name}_{number}"
    names.add(candidate)
    return candidate
