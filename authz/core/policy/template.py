"""Path templates: the google.api.http syntax with custom verbs, and whole gRPC packages.

Source: https://github.com/googleapis/googleapis/blob/master/google/api/http.proto. `router.py` matches paths with them.
"""

import re
from dataclasses import dataclass
from sys import intern

from authz.core.policy.path import DOTS

ONE = "*"
HOLE = "{}"
"""The place of a variable in a part that also has literal text, such as `{}.json`."""
ANY_DEPTH = "**"

_LITERAL = re.compile(r"[A-Za-z0-9\-._~!$&'()+,=@]+")
_SLASH = re.compile(r"/(?![^{]*\})")  # outside of braces
_VERB = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_VARIABLE = re.compile(r"\{(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)(?:=(?P<pattern>[^{}]+))?\}")
_HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")
_HOLES_MAX = 2
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\.\*\*")
_METHOD = re.compile(r"/[A-Za-z_][\w]*(?:\.[A-Za-z_][\w]*)+/[A-Za-z_][\w]*", re.ASCII)


class TemplateError(ValueError):
    """An invalid template; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template.

    `parts` holds literals (one empty literal for `/`), `*` for one segment, `**` for the rest (also none), `{}.json` or
    `{}...{}` for a segment with variables and literal text, and `pkg.name.**` for every service of a gRPC package.
    `names` maps each variable to the part where it begins and the number of parts it spans; those beside literal text
    are not in it. `verb` is the custom verb after the last colon, or empty.
    """

    parts: tuple[str, ...]
    names: dict[str, tuple[int, int]]
    verb: str = ""

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Parse a template such as `/v1/servers/{id}:start`; raises `TemplateError`."""
        if not text.startswith("/"):
            raise TemplateError("a template starts with a slash")
        if _PACKAGE.fullmatch(text[1:]):
            return cls((text[1:],), {})
        path, colon, verb = text.rpartition(":")
        if not colon or "}" in verb or "/" in verb:
            path, colon, verb = text, "", ""
        elif not _VERB.fullmatch(verb):
            raise TemplateError(f"bad custom verb {verb!r}")
        if path == "/" and not colon:
            return cls(("",), {})
        parts: list[str] = []
        names: dict[str, tuple[int, int]] = {}
        for segment in _SLASH.split(path[1:]):
            name, spanned = _parsed(segment)
            if name in names:
                raise TemplateError(f"variable {name!r} appears twice")
            if name:
                names[name] = (len(parts), len(spanned))
            parts += spanned
        _check_order(parts, verb)
        return cls(tuple(parts), names, verb)

    @property
    def takes_slash(self) -> bool:
        """Whether the same path with a trailing slash is another one that the template does not match."""
        last = self.parts[-1]
        return not self.verb and self.parts != ("",) and not last.endswith(ANY_DEPTH)

    @property
    def word(self) -> str:
        """The last segment that a matching path has literally; empty where there is none."""
        return next((part for part in reversed(self.parts) if part not in {ONE, ANY_DEPTH} and HOLE not in part), "")

    @property
    def regex(self) -> str:
        """The regular expression of all paths that match, without a query, as Envoy's RE2 reads it."""
        words = {ONE: "/[^/?]+", ANY_DEPTH: "(/[^?]*)?"}
        parts = (words.get(it) or "/" + "[^/?]+".join(map(re.escape, it.split(HOLE))) for it in self.parts)
        return "".join(parts) + (f":{re.escape(self.verb)}" if self.verb else "")

    def variables(self, segments: tuple[str, ...]) -> dict[str, str]:
        """Read the variables out of a matching path's decoded segments, without the custom verb."""
        if self.verb:
            segments = (*segments[:-1], segments[-1].removesuffix(f":{self.verb}"))
        values: dict[str, str] = {}
        for name, (start, count) in self.names.items():
            end = None if self.parts[start + count - 1] == ANY_DEPTH else start + count
            values[name] = "/".join(segments[start:end])
        return values


def _check_order(parts: list[str], verb: str) -> None:
    if ANY_DEPTH in parts[:-1]:
        raise TemplateError("** must come last")
    if verb and HOLE in parts[-1]:
        raise TemplateError("a last segment with a variable and other text has no custom verb")


def is_grpc(text: str) -> bool:
    """Tell whether a template is a gRPC method, `/pkg.Service/Method`, or a whole package, `/pkg.**`."""
    return bool(_METHOD.fullmatch(text) or _PACKAGE.fullmatch(text[1:]))


def _parsed(segment: str) -> tuple[str, list[str]]:
    variable = _VARIABLE.fullmatch(segment)
    if variable is None:
        return "", [_with_holes(segment) if HOLE[0] in segment else _part(segment)]
    return variable["name"], [_part(part) for part in (variable["pattern"] or ONE).split("/")]


def _with_holes(segment: str) -> str:
    texts = _HOLE.split(segment)
    names, literals = texts[1::2], texts[::2]
    if not names or len(names) > _HOLES_MAX or len(set(names)) < len(names):
        raise TemplateError(f"bad segment {segment!r}")
    if not all(literals[1:-1]) or not all(_LITERAL.fullmatch(text) for text in literals if text):
        raise TemplateError(f"bad segment {segment!r}")
    return intern(HOLE.join(literals))


def _part(text: str) -> str:
    if text in {ONE, ANY_DEPTH} or (_LITERAL.fullmatch(text) and text not in DOTS):
        return intern(text)  # thousands of templates share few words
    raise TemplateError("empty segment" if not text else f"bad segment {text!r}")
