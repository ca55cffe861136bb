"""A template for the bodies of refusals: text with named fields, whose values are escaped for its content type.

What the values are is `core/errors.py`; the built-in formats are `core/error_body.py`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from typing import TypeAlias

from authz.core.errors import Denial

BYTES_MAX = 8192
"""The longest template, in bytes."""

REQUEST_ID, RETRY_AFTER_S = "request_id", "retry_after_s"
FIELDS = frozenset(
    {
        "status",
        "code",
        "reason",
        "message",
        "title",
        "domain",
        "scope",
        "stream",
        "documentation_url",
        REQUEST_ID,
        RETRY_AFTER_S,
    }
)
_OF_REQUEST = frozenset({REQUEST_ID, RETRY_AFTER_S})
_ID_CHARS_MAX = 128
_FIELD = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[^{}$]*)\}|)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_NOT_OF_ID = re.compile(r"[^A-Za-z0-9._~:-]")
_JSON = re.compile(r"application/(?:[a-z0-9.-]+\+)?json")
_MARKUP = re.compile(r"text/(?:html|xml)|application/(?:[a-z0-9.-]+\+)?xml")
_RAW_TEXT = re.compile(r"<\s*(?:script|style|!--|!\[)", re.IGNORECASE)
_NASTY = "\"'\\<>&\n\u2028 \N{LATIN SMALL LETTER U WITH DIAERESIS}"

Values: TypeAlias = Mapping[str, str | int | None]


class TemplateFaultError(ValueError):
    """A template that must not be used; the message says why."""


class _Escape(StrEnum):
    """How values are written."""

    JSON = "json"
    MARKUP = "markup"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class _Hole:
    """The place of a field; `is_quoted` if it is inside of a text of JSON."""

    name: str
    is_quoted: bool = False


@dataclass(frozen=True, slots=True)
class ErrorTemplate:
    """A checked template. Raises `TemplateFaultError` for one that is not."""

    content_type: str
    text: str
    documentation_url: str = ""
    parts: tuple[str | _Hole, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Split the text at its fields, and render it once to see that it holds together."""
        if len(self.text.encode()) > BYTES_MAX:
            raise TemplateFaultError(f"has more than {BYTES_MAX:,} bytes")
        object.__setattr__(self, "parts", tuple(_split(self.text, is_json=self._escape is _Escape.JSON)))
        if self._escape is _Escape.MARKUP and _RAW_TEXT.search(self.text):
            raise TemplateFaultError("has a script, style or comment, where values cannot be escaped")
        for text in (_NASTY, "a"):
            values = dict.fromkeys(FIELDS, text) | {"status": 400, "code": 3, RETRY_AFTER_S: 1 if text == "a" else None}
            rendered = self.render(values)
            if self._escape is _Escape.JSON:
                _check_json(rendered)

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON."""
        return self._escape is _Escape.JSON

    @property
    def is_plain(self) -> bool:
        """Whether the body is plain text."""
        return self._escape is _Escape.PLAIN

    @property
    def is_markup(self) -> bool:
        """Whether the body is XML or HTML."""
        return self._escape is _Escape.MARKUP

    @property
    def names(self) -> frozenset[str]:
        """The fields in use."""
        return frozenset(part.name for part in self.parts if isinstance(part, _Hole))

    @property
    def is_of_request(self) -> bool:
        """Whether two refusals for one reason differ."""
        return bool(self.names & _OF_REQUEST)

    def render(self, values: Values) -> str:
        """Return the body; fields without a value are null in JSON and empty elsewhere."""
        return "".join(
            part if isinstance(part, str) else self._written(part, values.get(part.name)) for part in self.parts
        )

    @property
    def _escape(self) -> _Escape:
        name = self.content_type.partition(";")[0].strip()
        if _JSON.fullmatch(name):
            return _Escape.JSON
        if _MARKUP.fullmatch(name):
            return _Escape.MARKUP
        if name == "text/plain":
            return _Escape.PLAIN
        raise TemplateFaultError(f"{name} is no content type with known escapes: use JSON, XML, HTML or text/plain")

    def _written(self, hole: _Hole, value: str | int | None) -> str:
        if self._escape is _Escape.JSON and not hole.is_quoted:
            return json.dumps(value)
        text = "" if value is None else str(value)
        if self._escape is _Escape.JSON:
            return json.dumps(text)[1:-1]
        text = _CONTROLS.sub(" ", text)
        return escape(text) if self._escape is _Escape.MARKUP else text


def values_of(template: ErrorTemplate, domain: str, denial: Denial, message: str, details: Mapping[str, str]) -> Values:
    """Return the values of a refusal that do not depend on the request; `denial.line` is written out."""
    return {
        "status": denial.http or None,
        "code": int(denial.code),
        "reason": denial.line.upper().replace(" ", "_"),
        "message": message,
        "title": denial.line,
        "domain": domain,
        "scope": details.get("scope"),
        "stream": details.get("stream"),
        "documentation_url": template.documentation_url or None,
    }


def shown_id(request_id: str) -> str:
    """Return a request id as a body shows it: a client may have chosen it."""
    return _NOT_OF_ID.sub("", request_id[:_ID_CHARS_MAX])


def _split(text: str, *, is_json: bool) -> Iterator[str | _Hole]:
    position, inside = 0, _Inside()
    for match in _FIELD.finditer(text):
        literal = text[position : match.start()]
        position = match.end()
        inside.read(literal)
        yield literal
        name = match["name"]
        if match["dollar"]:
            yield "$"
        elif name is None:
            raise TemplateFaultError("a dollar sign is written $$")
        elif name not in FIELDS:
            raise TemplateFaultError(f"unknown field {name}: there are {', '.join(sorted(FIELDS))}")
        elif is_json and inside.is_escaping:
            raise TemplateFaultError(f"the field {name} stands behind a backslash")
        else:
            yield _Hole(name, inside.is_text)
    yield text[position:]


@dataclass(slots=True)
class _Inside:
    """Whether the end of a part of JSON is inside of a text, and behind a backslash there."""

    is_text: bool = False
    is_escaping: bool = False

    def read(self, part: str) -> None:
        for char in part:
            if self.is_escaping:
                self.is_escaping = False
            elif char == '"':
                self.is_text = not self.is_text
            elif char == "\\":
                self.is_escaping = self.is_text


def _check_json(text: str) -> None:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise TemplateFaultError(f"is not JSON: {reason}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
