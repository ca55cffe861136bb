"""JSON bodies: the text of a bound member at the top level, where every JSON reader finds the same one.

A body is bounded before it is parsed, so that parsing takes less than a millisecond. Names are folded in
`spellings.py`; which bodies are read at all is `accounts.py`.
"""

import re
from json import JSONDecoder
from typing import TypeAlias

from authz.core.bindings.query import METHOD_NAMES
from authz.core.bindings.spellings import Ambiguous, BoundNames

BODY_BYTES_MAX = 65_536
"""The longest body that is read; Envoy's `max_request_bytes` in `envoy.yaml` is the same."""

VALUES_MAX = 2_500
"""The most commas and opening brackets in a body, those in texts included."""

MEMBERS_MAX = 256
"""The most members of the document itself."""

SIMILAR_MAX = 8
"""The most members of which somewhat more must be looked at, because their names contain or begin a bound one."""

_JSON = re.compile(r'application/json[ \t]*(?:;[ \t]*charset[ \t]*=[ \t]*(?:utf-8|"utf-8")[ \t]*)?', re.IGNORECASE)
_METHOD_NAMES = frozenset(name.decode() for name in METHOD_NAMES)
_FOREIGN_CHARS_MAX = 2048

Members: TypeAlias = tuple[tuple[str, object], ...]
"""A JSON object as its pairs, repeated names included. Arrays are lists, and numbers the lengths of their literals."""


def _no_constant(name: str) -> None:
    raise ValueError(name)


# Numbers are not computed: that takes quadratic time.
_DECODER = JSONDecoder(object_pairs_hook=tuple, parse_int=len, parse_float=len, parse_constant=_no_constant)


def is_json(content_type: str) -> bool:
    """Tell whether a content type is JSON in UTF-8 to every reader: `application/json`, with that charset or none."""
    return bool(_JSON.fullmatch(content_type))


def bound_texts(body: bytes, bound: BoundNames) -> list[str]:
    """Return the text of every member with a bound name; null and "" are absent.

    Raises `Ambiguous` for what is not one JSON object, for another spelling of a bound name, and for a bound member
    that is no text.
    """
    members = _members(body)
    texts: list[str] = []
    foreign_chars = similar = 0
    for name, value in members:
        if not name.isascii():
            foreign_chars += len(name)
            if foreign_chars > _FOREIGN_CHARS_MAX:
                raise Ambiguous("too many names outside ASCII")
        if name in bound.exact:
            texts.append(_text(value))
            continue
        similar += bound.occur_in(name) or (isinstance(value, tuple) and bound.is_started(name))
        if similar > SIMILAR_MAX:
            raise Ambiguous("too many names like a bound one")
        _check_other(name, value, bound)
    # A repeated name is one name too many even if one of the two is absent.
    return texts if len(texts) > 1 else [text for text in texts if text]


def _members(body: bytes) -> Members:
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > VALUES_MAX:
        raise Ambiguous("a body of too many values")
    try:
        document = _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        raise Ambiguous("a body that is not JSON") from None
    if not isinstance(document, tuple):
        raise Ambiguous("a body that is not a JSON object")
    if len(document) > MEMBERS_MAX:
        raise Ambiguous("a body of too many members")
    return document


def _text(value: object) -> str:
    if value is None:
        return ""  # as in proto3 JSON
    if not isinstance(value, str):
        raise Ambiguous("a bound member that is no text")
    return value


def _check_other(name: str, value: object, bound: BoundNames) -> None:
    """Raise `Ambiguous` for a member that some reader may take for a bound one, or for the method."""
    if bound.is_spelling(name) or name == "__proto__" or name.lower().replace("-", "_") in _METHOD_NAMES:
        raise Ambiguous("another spelling of a bound name")
    if isinstance(value, tuple) and bound.is_continued(name, [member[0] for member in value[:MEMBERS_MAX]]):
        raise Ambiguous("a bound name in two parts")
    if isinstance(value, tuple) and len(value) > MEMBERS_MAX and bound.is_started(name):
        raise Ambiguous("a bound name that may continue in too many members")
