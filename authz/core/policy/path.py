"""Request targets: one spelling of a path is accepted, every other one is refused.

Nothing is repaired: a path that a backend could read differently is refused. `router.py` finds the row of a path.
"""

import re
from urllib.parse import unquote_plus, unquote_to_bytes

from authz.core.value import Value

PATH_CHARS_MAX = 8192
SEGMENTS_MAX = 64

# What RFC 3986 allows in a path, without the ";" of path parameters, which backends treat in different ways.
_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,=:@%/]*")
# The common ones of these, which have one reading: no escapes, no empty segments, and no segment begins with a dot.
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9\-_~!$&'()*+,=:@][A-Za-z0-9\-._~!$&'()*+,=:@]*+)++")
# What may follow the "?": the same, and the characters that browsers do not encode in a query.
_QUERY = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@%/?\[\]|{}^`\"<>\\]*")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# What decoding must not produce: another path, another encoding, a parameter, a query, a fragment, a control byte.
_DECODED_DANGER = re.compile(r"[/\\;%?#\x00-\x1f\x7f]")
DOTS = frozenset({".", ".."})


class Target(Value):
    """A canonical request target.

    `segments` are as sent, percent encodings included; a trailing slash gives an empty last one. `decoded` are the same
    segments percent-decoded once: the identical tuple if nothing was encoded. `query` is raw, without its `?`.
    """

    segments: tuple[str, ...]
    decoded: tuple[str, ...]
    query: str = ""


def parse(target: str) -> Target | None:
    """Split a request target; return None if its path or query has more than one reading.

    Refused are: no leading slash, empty segments (a trailing slash is allowed), dot segments, `;`, backslashes, control
    bytes, fragments, bytes outside ASCII, broken escapes, and escapes that hide any of these or a further escape.
    """
    path, _, query = target.partition("?")
    if len(path) > PATH_CHARS_MAX or (query and not _QUERY.fullmatch(query)):
        return None
    segments = tuple(path[1:].split("/"))
    if len(segments) > SEGMENTS_MAX:
        return None
    decoded = segments if _PLAIN_PATH.fullmatch(path) else _decoded(path, segments)
    return None if decoded is None else Target(segments, decoded, query)


def _decoded(path: str, segments: tuple[str, ...]) -> tuple[str, ...] | None:
    """Decode the segments of any path; return None if it has more than one reading."""
    if not _PATH.fullmatch(path) or "//" in path or not DOTS.isdisjoint(segments):
        return None
    if "%" not in path:
        return segments
    if _BROKEN_ESCAPE.search(path):
        return None
    try:
        decoded = tuple(unquote_to_bytes(segment).decode() for segment in segments)
    except UnicodeDecodeError:
        return None
    if any(_DECODED_DANGER.search(segment) for segment in decoded) or not DOTS.isdisjoint(decoded):
        return None
    return decoded


def query_values(query: str, name: str) -> list[str]:
    """Return every value that a backend might read for a query parameter, percent-decoded.

    Some backends take `;` for a separator as well as `&`. Where the readings differ, the values of both are returned.
    """
    values = _values(query, name, "&")
    if ";" not in query:
        return values
    return values + [value for value in _values(query.replace("&", ";"), name, ";") if value not in values]


def _values(query: str, name: str, separator: str) -> list[str]:
    pairs = (pair.partition("=") for pair in query.split(separator))
    return [unquote_plus(value) for key, _, value in pairs if unquote_plus(key) == name]
