"""Token buckets: their size, and the reference model of how they fill and empty.

The bucket that counts lives in Redis (`adapters/lua/check.lua`); this model is written independently of it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket's size in tokens and its refill in tokens per second (a fraction is fine)."""

    capacity: int
    refill_per_s: float
