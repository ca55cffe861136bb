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
    """Return the reserved names among those of a request's headers, without the key header in its own spelling.

    Linear in the number of names, whatever their length. At most `COUNT_MAX` + 1 of them are returned.
    """
    found: dict[str, None] = {}
    size = len(key_header)
    for name in names:
        # Two cheap comparisons exclude nearly every header.
        if (name[_WORD].lower() == "authz" and folded(name[_START]) == PREFIX) or (
            len(name) == size and name != key_header and folded(name) == folded(key_header)
        ):
            found[name] = None
            if len(found) > COUNT_MAX:
                break
    return tuple(found)


def is_refused(names: tuple[str, ...]) -> bool:
    """Return whether a request with these reserved headers must be refused.

    That is the case if one is an alias or longer than any that a backend reads, or if there are too many.
    """
    return len(names) > COUNT_MAX or not all(map(_PLAIN.fullmatch, names))


def folded(name: str) -> str:
    """Return the spelling to which backends may fold a header name."""
    return _OTHER.sub("-", name.lower())
