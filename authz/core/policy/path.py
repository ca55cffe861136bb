"""Request targets: one spelling of a path is accepted, every other one is refused.

Nothing is repaired: a path that a backend could read differently is refused. `router.py` finds the row of a path.
"""

import re
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

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
# What decoding must not produce: another path, another encoding, a parameter, a query, a fragment, a control byte; and
# the characters that a compatibility normalisation (NFKC, NFKD) or a conversion to an older character set turns into
# one of these, or into a dot or a colon. A test computes the former from the Unicode tables.
_DECODED_DANGER = re.compile(
    r"[/\\;%?#\x00-\x1f\x7f\x85"
    "\u037e\u2024-\u2026\u2028\u2029\u2044\u2047-\u2049\u203d\u2100\u2101\u2105\u2106\u2215\u2216\u2236\u2488-\u249b"
    "\u29f5\u29f8\u2a74\u33c2\u33c7\u33d8\ufe12\ufe13\ufe14\ufe16\ufe19\ufe30\ufe52\ufe54-\ufe56\ufe5f\ufe68\ufe6a\uff03\uff05"
    "\uff0e\uff0f\uff1a\uff1b\uff1f\uff3c\U0001f100]"
)
DOTS = frozenset({".", ".."})


class Target(Value):
    """A canonical request target.

    `segments` are as sent, percent encodings included; a trailing slash gives an empty last one. `decoded` are the same
    segments percent-decoded once: the identical tuple if nothing was encoded. `query` is raw, without its `?`.
    """

    segments: tuple[str, ...]
    decoded: tuple[str, ...]
    query: str = ""

    def compatible(self) -> tuple[str, ...]:
        """Return the decoded segments as a backend reads them that normalises compatibility characters (NFKC)."""
        return tuple("".join(map(_compatible, segment)) for segment in self.decoded)


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


def _compatible(character: str) -> str:
    # One at a time: normalising a long run of combining marks at once takes quadratic time.
    return character if character < "\x80" else normalize("NFKC", character)
