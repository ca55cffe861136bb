"""Token buckets: capacity, refill, taking tokens, and the time to wait.

The authoritative bucket is in Redis (`adapters/redis/lua/check.lua`). This model is an independent implementation:
tests compare the two, and checks use it in the failure mode `degrade`.
"""

from dataclasses import dataclass
from math import ceil

CAPACITY_MAX = 1_000_000_000
REFILL_PER_S_MIN, REFILL_PER_S_MAX = 0.000_001, 1_000_000_000.0
FULL_AFTER_S_MAX = 2**31 - 1
"""The longest time in which a bucket may fill: headers report it, and clients read 32 bits."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket's size in tokens and its refill in tokens per second (may be a fraction)."""

    capacity: int
    refill_per_s: float


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """A bucket that held `remaining` tokens at `at_s` (seconds on any clock). Fractions of tokens are kept."""

    limit: Limit
    remaining: float
    at_s: float

    def take(self, cost: float, now_s: float) -> tuple[bool, "TokenBucket"]:
        """Refill, then take `cost` tokens, all or none. A clock that went back refills nothing."""
        elapsed_s = max(0.0, now_s - self.at_s)
        filled = min(self.limit.capacity, self.remaining + elapsed_s * self.limit.refill_per_s)
        granted = filled >= cost
        return granted, TokenBucket(self.limit, filled - cost if granted else filled, max(now_s, self.at_s))

    def under(self, limit: Limit) -> "TokenBucket":
        """Return the same bucket under another limit; tokens above a smaller capacity are lost."""
        if limit is self.limit:
            return self
        return TokenBucket(limit, min(self.remaining, limit.capacity), self.at_s)


def limit_fault(limit: Limit) -> str | None:
    """Return what is wrong with a limit, or None: too small or large, not a number, or too slow to fill."""
    if not 1 <= limit.capacity <= CAPACITY_MAX:
        return f"a limit's capacity must be 1 to {CAPACITY_MAX:,} tokens"
    if not REFILL_PER_S_MIN <= limit.refill_per_s <= REFILL_PER_S_MAX:  # false of NaN, too
        return f"a limit's refill must be {REFILL_PER_S_MIN:f} to {REFILL_PER_S_MAX:,.0f} tokens per second"
    if limit.capacity / limit.refill_per_s > FULL_AFTER_S_MAX:
        return f"a limit's bucket must fill within {FULL_AFTER_S_MAX:,} seconds"
    return None


def retry_after_s(limit: Limit, remaining: float, cost: float) -> int:
    """Return the whole seconds, at least one, until `cost` tokens are available (RFC 9110 section 10.2.3)."""
    return max(1, ceil((cost - remaining) / limit.refill_per_s))


def full_after_s(limit: Limit, remaining: float) -> int:
    """Return the whole seconds until the bucket is full."""
    return ceil((limit.capacity - remaining) / limit.refill_per_s)
