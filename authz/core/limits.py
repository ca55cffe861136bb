"""Token buckets: their size, how they fill and empty, and how long to wait.

The bucket that counts lives in Redis (`adapters/lua/check.lua`). This model is written independently of it: tests hold
one against the other, and it stands in where an operator chose to go on without Redis.
"""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket's size in tokens and its refill in tokens per second (a fraction is fine)."""

    capacity: int
    refill_per_s: float


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """A bucket that held `remaining` tokens at `at_s` (seconds on any clock). Fractions of tokens are kept."""

    limit: Limit
    remaining: float
    at_s: float

    def take(self, cost: float, now_s: float) -> tuple[bool, "TokenBucket"]:
        """Refill, then take `cost` tokens, all or none; a clock that went back gives nothing."""
        elapsed_s = max(0.0, now_s - self.at_s)
        filled = min(self.limit.capacity, self.remaining + elapsed_s * self.limit.refill_per_s)
        granted = filled >= cost
        return granted, TokenBucket(self.limit, filled - cost if granted else filled, max(now_s, self.at_s))

    def under(self, limit: Limit) -> "TokenBucket":
        """Return the same bucket under another limit; tokens above a smaller size are lost."""
        if limit is self.limit:
            return self
        return TokenBucket(limit, min(self.remaining, limit.capacity), self.at_s)


def retry_after_s(limit: Limit, remaining: float, cost: float) -> int:
    """Return the whole seconds, at least one, until `cost` tokens are there (RFC 9110 section 10.2.3)."""
    return max(1, ceil((cost - remaining) / limit.refill_per_s))


def full_after_s(limit: Limit, remaining: float) -> int:
    """Return the whole seconds until the bucket is full."""
    return ceil((limit.capacity - remaining) / limit.refill_per_s)
