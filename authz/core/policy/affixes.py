"""Segments of templates that have literal text beside their variables, such as `{id}.json` and `{base}...{head}`.

How a template is written is `template.py`; which row a path has is `router.py`.
"""

from authz.core.policy.template import HOLE

AFFIXES_MAX = 64
"""The most rows of a policy with such a segment: a path is compared with each of its length."""


class Affix:
    """The literal text of one segment. `text` has `{}` for each of its one or two variables.

    A barred one also matches where a variable is empty or a custom verb follows, because some backend may do so.
    """

    __slots__ = ("_is_barred", "_least", "first", "inner", "last", "text")

    def __init__(self, text: str, *, is_barred: bool = False) -> None:
        literals = text.split(HOLE)
        self.text = text
        self.first, self.last = literals[0], literals[-1]
        self.inner = "" if len(literals) == 2 else literals[1]  # noqa: PLR2004 -- the text around one variable
        self._is_barred = is_barred
        self._least = 0 if is_barred else 1

    def matches(self, segment: str) -> bool:
        """Tell whether a segment has the text, with at least one character for each variable; in linear time.

        Where the text occurs several times it does not matter which occurrence a backend takes: the row is the same.
        """
        if self._is_barred and ":" in segment:
            return any(self._has_text(it) for it in (segment, segment.partition(":")[0], segment.rpartition(":")[0]))
        return self._has_text(segment)

    def overlaps(self, other: "Affix") -> bool:
        """Tell whether some segment may match both."""
        begins = self.first.startswith(other.first) or other.first.startswith(self.first)
        return begins and (self.last.endswith(other.last) or other.last.endswith(self.last))

    def common(self, other: "Affix", filler: str) -> str:
        """Return a segment that matches this and another one that overlaps, with `filler` for each variable."""
        first, last = max(self.first, other.first, key=len), max(self.last, other.last, key=len)
        inner = "".join(f"{text}{filler}" for text in (self.inner, other.inner) if text)
        return f"{first}{filler}{inner}{last}"

    def _has_text(self, segment: str) -> bool:
        start, end = len(self.first) + self._least, len(segment) - len(self.last) - self._least
        if not (segment.startswith(self.first) and segment.endswith(self.last)):
            return False
        if not self.inner:
            return end - start >= (0 if self._is_barred else -1)
        return self.inner in segment[start:end]
