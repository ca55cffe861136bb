"""The folding of parameter names: every spelling that some backend may read as one name is equal after it.

Only names are folded; values are compared byte for byte. Which names a row binds is `accounts.py`.
"""

import re
from collections.abc import Iterable
from unicodedata import normalize

NAME_CHARS_MAX = 1024
"""The longest name that may contain a bound one."""

FOREIGN_CHARS_MAX = 64
"""The longest name with characters outside ASCII: normalising costs more than linear time."""

_DROPPED = {code: None for code in range(128) if not chr(code).isalnum()}
# What separates the members of a nested name: `a[b]`, `a.b`; some readers end a name at a NUL.
_JOINT = re.compile(r"[\[\].\x00]+")


class Ambiguous(Exception):  # noqa: N818 -- a signal between the readers of one request, always caught
    """Something has more than one reading; str(error) says what, for the log."""


def fold(name: str) -> str:
    """Keep letters and digits only, in lower case; raises `Ambiguous` for a long name outside ASCII.

    So case, `_`, `-`, `.`, blanks, brackets, NUL and control bytes do not matter. Compatibility characters, accents and
    the letters that some languages take for an `i`, `k` or `s` become the letters of ASCII.
    """
    if not name.isascii():
        if len(name) > FOREIGN_CHARS_MAX:
            raise Ambiguous("a long name outside ASCII")
        name = normalize("NFKD", name).upper().encode("ascii", "ignore").decode()
    return name.lower().translate(_DROPPED)


class BoundNames:
    """The names that a row binds in one location."""

    def __init__(self, names: Iterable[str]) -> None:
        self.exact = frozenset(names)
        self._folded = frozenset(map(fold, self.exact))

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
        folded = fold(name)
        bound_names = [bound for bound in self._folded if bound in folded]
        if not bound_names:
            return False
        if folded in self._folded:
            return True
        if len(name) > NAME_CHARS_MAX:
            raise Ambiguous("a long name")
        position, ends = 0, {0}
        for member in _JOINT.split(name):
            position += len(fold(member))
            ends.add(position)
        return any(
            folded.startswith(bound, start) and start + len(bound) in ends for bound in bound_names for start in ends
        )

    def is_continued(self, name: str, members: Iterable[str]) -> bool:
        """Tell whether a name and one of its members together spell a bound name, as in `{"account": {"id": 1}}`."""
        first = fold(name)
        rests = {bound.removeprefix(first) for bound in self._folded if bound.startswith(first)}
        return bool(rests) and any(fold(member) in rests for member in members)

    def is_started(self, name: str) -> bool:
        """Tell whether a bound name begins with this one."""
        first = fold(name)
        return any(bound.startswith(first) for bound in self._folded)
