"""A token bucket for one kind of work.

The buckets of the API's callers are in Redis.
"""


class TokenBucket:
    """Permits `burst` at once, then `per_s` a second; times are monotonic seconds."""

    __slots__ = ("_burst", "_per_s", "_remaining", "_updated_s")

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._remaining = float(burst)
        self._updated_s = 0.0

    def take(self, now_s: float) -> bool:
        """Take a token; return whether there was one."""
        self._remaining = min(self._burst, self._remaining + (now_s - self._updated_s) * self._per_s)
        self._updated_s = now_s
        if self._remaining < 1:
            return False
        self._remaining -= 1
        return True
