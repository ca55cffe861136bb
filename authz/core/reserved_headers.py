"""Headers that only authz may set: the identity headers and the API key header, in every spelling.

Backends may fold header names: CGI and its successors turn `-` into `_`, some servers every other character too. A name
that folds to a reserved one is an alias of it. What is removed or refused is decided elsewhere.
"""

import re
from collections.abc import Iterable

PREFIX = "x-authz-"
"""The prefix of all identity headers."""

COUNT_MAX = 32
"""The most reserved headers that a request may contain; each is removed by name."""

_OTHER = re.compile(r"[^a-z0-9]")
_PLAIN = re.compile(rf"{PREFIX}[a-z0-9-]{{0,64}}")
_START, _WORD = slice(len(PREFIX)), slice(2, 7)


def reserved(names: Iterable[str], key_header: str) -> tuple[str, ...]:
    """Return the reserved names among candidates (`may_be_reserved`) from a request's headers.

    Linear in the number of names, whatever their length. At most `COUNT_MAX` + 1 of them are returned.
    """
    found: dict[str, None] = {}
    size = len(key_header)
    for name in names:
        if folded(name[_START]) == PREFIX or (len(name) == size and folded(name) == folded(key_header)):
            found[name] = None
            if len(found) > COUNT_MAX:
                break
    return tuple(found)


def may_be_reserved(name: str, key_header: str) -> bool:
    """Return False for nearly every header that is not reserved, at little cost; `reserved` decides on the rest."""
    return name[_WORD].lower() == "authz" or (len(name) == len(key_header) and name != key_header)


def is_refused(names: tuple[str, ...]) -> bool:
    """Return whether a request with these reserved headers must be refused.

    That is the case if one is an alias or longer than any that a backend reads, or if there are too many.
    """
    return len(names) > COUNT_MAX or not all(map(_PLAIN.fullmatch, names))


def folded(name: str) -> str:
    """Return the spelling to which backends may fold a header name."""
    return _OTHER.sub("-", name.lower())
