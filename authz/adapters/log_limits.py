"""Rate limits of log lines: a token bucket for each kind of line, and the number of lines that it suppressed.

The kinds are chosen by the callers. Dropped lines of a full queue are in `log_writer.py`.
"""

import time
from collections.abc import Callable, Hashable

PER_S, BURST = 10.0, 100
_KINDS_MAX = 1_024


class _Kind:
    __slots__ = ("suppressed", "tokens", "updated_s")

    def __init__(self, tokens: float, now_s: float) -> None:
        self.tokens = tokens
        self.updated_s = now_s
        self.suppressed = 0


class LineLimits:
    """Permits `burst` lines of each kind at once, then `per_s` a second.

    At most 1,024 kinds have a bucket of their own; all further ones share one. `total` counts suppressed lines.
    """

    def __init__(
        self, per_s: float = PER_S, burst: int = BURST, *, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = burst
        self._now_s = now_s
        self._kinds: dict[Hashable, _Kind] = {}
        self.total = 0

    def admit(self, kind: Hashable, *, always: bool = False) -> int | None:
        """Return how many lines of a kind were suppressed before this one, or None where it is suppressed too."""
        now_s = self._now_s()
        bucket = self._kinds.get(kind)
        if bucket is None:
            kind = kind if len(self._kinds) < _KINDS_MAX else None
            bucket = self._kinds.setdefault(kind, _Kind(self._burst, now_s))
        bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.updated_s) * self._per_s)
        bucket.updated_s = now_s
        if bucket.tokens < 1 and not always:
            bucket.suppressed += 1
            self.total += 1
            return None
        bucket.tokens = max(0, bucket.tokens - 1)
        suppressed, bucket.suppressed = bucket.suppressed, 0
        return suppressed

    def take_suppressed(self) -> list[tuple[Hashable, int]]:
        """Return the suppressed lines by kind that no later line has reported, and reset them."""
        suppressed = [(kind, bucket.suppressed) for kind, bucket in self._kinds.items() if bucket.suppressed]
        for kind, _ in suppressed:
            self._kinds[kind].suppressed = 0
        return suppressed
