"""Queries: which pairs spell a bound name or an override of the method, in every way that backends read them.

Everything here is linear in the query. Names are folded in `spellings.py`; paths are `core/policy/path.py`.
"""

import re
from itertools import islice

from authz.core.bindings.spellings import Ambiguous, BoundNames

QUERY_BYTES_MAX = 8192
"""The longest query in which a bound name is looked for."""

BROKEN_BYTES_MAX = 2048
"""The longest query that may have broken escapes."""

PAIRS_MAX = 64
"""The most pairs in a query in which a bound name is looked for."""

FOREIGN_NAMES_MAX = 8
"""The most names outside ASCII in such a query."""

METHOD_BYTES_MAX = 32_768
"""The longest query that may contain the word `method`."""

METHOD_NAMES = (b"_method", b"_http_method", b"x_http_method", b"x_http_method_override", b"x_method_override")
"""Parameters that some frameworks take for the method of the request; `-` and `.` count as `_`."""

_READINGS = 2  # decoded before it is split, and decoded twice
_SEPARATOR = re.compile("[&;]")
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
# Of a name, `[` and NUL end it for some readers as `=` does.
_ENDS = bytes.maketrans(b"-.;[\x00", b"__&==")
_BLANKS = b" +\t\r\n\v\f"


def bound_values(query: str, bound: BoundNames) -> list[str]:
    """Return the decoded value of every pair with a bound name; raises `Ambiguous` for another spelling of one."""
    if len(query) > QUERY_BYTES_MAX or query.count("&") + query.count(";") >= PAIRS_MAX:
        raise Ambiguous("a query of too many bytes or pairs")
    decoded = _unescaped(query)
    if decoded.isascii() and "%" not in decoded and not bound.occur_in(decoded):
        return []
    values: list[str] = []
    _check_foreign(decoded)
    for pair in query.split("&"):
        if _is_bound(pair, bound):
            values.append(_decoded(pair.partition("=")[2]))
            if len(values) > 1:
                return values
    # Some backends decode the query before they split it, or twice. They must find the same pairs.
    for _ in range(_READINGS if "%" in query else 0):
        pairs = _SEPARATOR.split(decoded)
        if len(pairs) > PAIRS_MAX:
            raise Ambiguous("a query of too many encoded pairs")
        if _spellings(pairs, bound) != len(values):
            raise Ambiguous("a query with another reading where it is decoded first")
        if "%" not in decoded:
            break
        decoded = _unescaped(decoded)
    return values


def _check_foreign(decoded: str) -> None:
    """Raise `Ambiguous` for many names outside ASCII, which cost most and which nobody uses."""
    if not decoded.isascii():
        names = (pair.partition("=")[0] for pair in _SEPARATOR.split(decoded))
        if sum(not name.isascii() for name in names) > FOREIGN_NAMES_MAX:
            raise Ambiguous("too many names outside ASCII")


def _spellings(pairs: list[str], bound: BoundNames) -> int:
    """Count the pairs with a spelling of a bound name, two at most."""
    names = (pair.partition("=")[0] for pair in pairs)
    return sum(1 for _ in islice(filter(bound.is_spelling, names), 2))


def names_a_method(query: str) -> bool:
    """Tell whether a query has a parameter that some frameworks take for the method, also as part of another value.

    Every allowed request with a query comes here. Raises `Ambiguous` for a long query with broken escapes
    or that word.
    """
    if "%" in query:
        text = _unescaped_bytes(query.replace("\\", "/")).lower()  # no name contains either
    elif "method" in (lower := query.lower()):
        text = lower.encode()
    else:
        return False
    if b"method" not in text:
        return False
    if len(text) > METHOD_BYTES_MAX:
        raise Ambiguous("a long query with the word method")
    pairs = b"&%b=" % text.translate(_ENDS, _BLANKS).replace(b"&", b"=&")
    return any(b"&%b=" % name in pairs for name in METHOD_NAMES)


def _is_bound(pair: str, bound: BoundNames) -> bool:
    """Tell whether a pair has a bound name; raises `Ambiguous` unless every reader finds exactly that name there."""
    raw = pair.partition("=")[0]
    name = _decoded(raw)
    if "%" in raw and ("\ufffd" in name or _BROKEN_ESCAPE.search(raw)):
        # Lenient readers take overlong UTF-8 and `%u0061` for a letter.
        raise Ambiguous("a name that cannot be decoded")
    if ";" in pair:
        if any(bound.is_spelling(_decoded(part.partition("=")[0])) for part in pair.split(";")):
            raise Ambiguous("a bound name beside a semicolon")
        return False
    if name in bound.exact:
        return True
    if bound.is_spelling(name):
        raise Ambiguous("another spelling of a bound name")
    return False


def _decoded(text: str) -> str:
    """Decode a name or value as forms are: `+` is a blank; bytes that are not UTF-8 become U+FFFD."""
    text = text.replace("+", " ")
    return _unescaped(text) if "%" in text else text


def _unescaped(text: str) -> str:
    """Percent-decode a text once; broken escapes stay, and bytes that are not UTF-8 become U+FFFD."""
    return _unescaped_bytes(text).decode(errors="replace") if "%" in text else text


def _unescaped_bytes(text: str) -> bytes:
    """Percent-decode a text once; raises `Ambiguous` for a long text with broken escapes.

    Python's own `unquote_to_bytes` takes ten times as long, because it makes an object of every escape.
    """
    escaped = text.replace("\\", "%5c").replace("%", "\\x").encode()
    try:
        return escaped.decode("unicode_escape").encode("latin-1")
    except UnicodeDecodeError:
        if len(text) > BROKEN_BYTES_MAX:
            raise Ambiguous("a long query with broken escapes") from None
        return _unescaped_bytes(_BROKEN_ESCAPE.sub("%25", text))
