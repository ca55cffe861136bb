"""The folding of parameter names: every spelling that some backend may read as one name is equal after it.

Only names are folded; values are compared byte for byte. Which names a row binds is `accounts.py`.
"""

import re
from collections.abc import Iterable, Sequence
from unicodedata import normalize

NAME_CHARS_MAX = 1024
"""The longest name that may contain a bound one."""

FOREIGN_CHARS_MAX = 64
"""The longest name with characters outside ASCII: normalising costs more than linear time."""

_DROPPED = {code: None for code in range(128) if not chr(code).isalnum()}
# What separates the members of a nested name: `a[b]`, `a.b`; some readers end a name at a NUL.
_MARKED = _DROPPED | {ord(joint): "." for joint in "[].\0"}
_NUL = "\0"
_LISTED = {code: None for code in _DROPPED if chr(code) != _NUL}


class Ambiguous(Exception):  # noqa: N818 -- a signal between the readers of one request, always caught
    """Something has more than one reading; str(error) says what, for the log."""


def fold(name: str) -> str:
    """Keep letters and digits only, in lower case; raises `Ambiguous` for a long name outside ASCII.

    So case, `_`, `-`, `.`, blanks, brackets, NUL and control bytes do not matter. Compatibility characters, accents and
    the letters that some languages take for an `i`, `k` or `s` become the letters of ASCII.
    """
    return _ascii(name).lower().translate(_DROPPED)


def _ascii(name: str) -> str:
    if name.isascii():
        return name
    if len(name) > FOREIGN_CHARS_MAX:
        raise Ambiguous("a long name outside ASCII")
    return normalize("NFKD", name).upper().encode("ascii", "ignore").decode()


def _folded_all(names: Sequence[str]) -> frozenset[str]:
    """Fold several names together, in a fifth of the time; raises `Ambiguous` as `fold`, and for a NUL in one."""
    joined = _NUL.join(_ascii(name) for name in names)
    if joined.count(_NUL) >= max(1, len(names)):
        raise Ambiguous("a name with a NUL")
    return frozenset(joined.lower().translate(_LISTED).split(_NUL))


class BoundNames:
    """The names that a row binds in one location."""

    def __init__(self, names: Iterable[str]) -> None:
        self.exact = frozenset(names)
        self._folded = frozenset(map(fold, self.exact))
        spelled = "|".join(r"\.*+".join(bound) for bound in sorted(self._folded))
        self._nested = re.compile(rf"(?:\A|\.)(?:{spelled})(?:\.|\Z)")

    def occur_in(self, text: str) -> bool:
        """Tell whether an ASCII text may contain a spelling of a bound name; it may hold any number of names."""
        folded = text.lower().translate(_DROPPED)
        return any(bound in folded for bound in self._folded)

    def is_spelling(self, name: str) -> bool:
        """Tell whether some reader may take a name for a bound one; raises `Ambiguous` where it cannot be excluded.

        Nested names are included: `filter[account_id]`, `account[id]`, `account_id.0`.
        """
        if name in self.exact:
            return True
        marked = _ascii(name).lower().translate(_MARKED)
        folded = marked.replace(".", "")
        if not any(bound in folded for bound in self._folded):
            return False
        if folded in self._folded:
            return True
        if len(name) > NAME_CHARS_MAX:
            raise Ambiguous("a long name")
        return self._nested.search(marked) is not None

    def is_continued(self, name: str, members: Sequence[str]) -> bool:
        """Tell whether a name and one of its members together spell a bound name, as in `{"account": {"id": 1}}`."""
        first = fold(name)
        rests = {bound.removeprefix(first) for bound in self._folded if bound.startswith(first)}
        return bool(rests) and not rests.isdisjoint(_folded_all(members))

    def is_started(self, name: str) -> bool:
        """Tell whether a bound name begins with this one."""
        first = fold(name)
        return any(bound.startswith(first) for bound in self._folded)
