"""Token buckets: capacity, refill, taking tokens, and the time to wait.

The authoritative bucket is in Redis (`adapters/redis/lua/check.lua`). This model is an independent implementation:
tests compare the two, and checks use it in the failure mode `degrade`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

CAPACITY_MAX = 1_000_000_000
REFILL_PER_S_MIN, REFILL_PER_S_MAX = 0.000_001, 1_000_000_000.0
FULL_AFTER_S_MAX = 2**31 - 1
"""The longest time in which a bucket may fill: headers report it, and clients read 32 bits."""
BUCKETS_MAX = 8
"""The most buckets that one check takes tokens from, that of the account included."""
KEY_ITEM, ACCOUNT_ITEM = "default", "account"
"""The names, in rate headers, of the limit of a key and of an account. No named limit has one of them."""
CLOCK_TOLERANCE_S = 1.0
"""By how much a clock may be set back before a bucket counts from its new time."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket's size in tokens and its refill in tokens per second (may be a fraction)."""

    capacity: int
    refill_per_s: float

    def __add__(self, other: "Limit") -> "Limit":
        """Return the limit of both buckets together."""
        return Limit(self.capacity + other.capacity, self.refill_per_s + other.refill_per_s)


class LostBuckets(StrEnum):
    """With how many tokens a bucket begins again that its store has lost.

    `REFILLED`: with those that were refilled since the loss, so that nobody gets a token twice.
    """

    FULL = "full"
    REFILLED = "refilled"


NO_LIMIT = Limit(0, 0)
"""What is added where nothing is added."""


@dataclass(frozen=True, slots=True)
class NamedLimit:
    """One bucket of a named limit, under the name that rate headers show: unique in a policy."""

    name: str
    limit: Limit


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Which buckets a key has, in a policy in which it may have several. A check takes from all of them or from none.

    `default` are those of a key without a plan, or with a plan that the policy does not have; `plans` those of each
    plan. The first one is that of the key's record, and a limit of the key's own replaces it. `longest_s` is the time
    in which every bucket of the policy is full again.
    """

    default: tuple[NamedLimit, ...]
    plans: Mapping[str, tuple[NamedLimit, ...]]
    longest_s: float

    @property
    def is_single(self) -> bool:
        """Whether a key has one bucket, and it is the same for every key, except on rows with limits of their own."""
        return not self.plans and len(self.default) == 1

    def of(self, plan: str, own: Limit | None, row: tuple[NamedLimit, ...]) -> tuple[NamedLimit, ...]:
        """Return the buckets of a check: those of the key, the first one first, and those of the row, each once."""
        named = self.plans.get(plan) or self.default
        first = named[0] if own is None else NamedLimit(KEY_ITEM, own)
        further = {it.name: it for it in (*named[1:], *row) if it.name != first.name}
        return (first, *further.values())


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """A bucket that held `remaining` tokens at `at_s` (seconds on any clock). Fractions of tokens are kept."""

    limit: Limit
    remaining: float
    at_s: float

    def take(self, cost: float, now_s: float) -> tuple[bool, "TokenBucket"]:
        """Refill, then take `cost` tokens, all or none."""
        bucket = self.filled(now_s)
        granted = bucket.remaining >= cost
        return granted, bucket.without(cost) if granted else bucket

    def filled(self, now_s: float) -> "TokenBucket":
        """Return the bucket at `now_s`.

        A clock that was set back adds no tokens. If it was set back by more than `CLOCK_TOLERANCE_S`, the bucket counts
        from the new time: otherwise it would stay as it is until the clock reaches the former time.
        """
        elapsed_s = max(0.0, now_s - self.at_s)
        tokens = min(self.limit.capacity, self.remaining + elapsed_s * self.limit.refill_per_s)
        is_step = self.at_s - now_s > CLOCK_TOLERANCE_S
        return TokenBucket(self.limit, tokens, now_s if is_step else max(now_s, self.at_s))

    def without(self, cost: float) -> "TokenBucket":
        """Return the bucket with `cost` tokens less."""
        return TokenBucket(self.limit, self.remaining - cost, self.at_s)

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


def take_both(
    key: TokenBucket, account: TokenBucket, cost: float, now_s: float
) -> tuple[bool, TokenBucket, TokenBucket, bool]:
    """Take `cost` tokens from the buckets of a key and of its account, from both or from none.

    Returns whether they were granted, both buckets, and whether the account's is the one to show: the emptier bucket,
    or on a refusal the one that has the tokens later.
    """
    key, account = key.filled(now_s), account.filled(now_s)
    is_account = account.remaining < key.remaining
    if key.remaining >= cost and account.remaining >= cost:
        return True, key.without(cost), account.without(cost), is_account
    if key.remaining < cost:
        is_account = _missing_s(account, cost) > _missing_s(key, cost)
    return False, key, account, is_account


def take_all(buckets: Sequence[TokenBucket], cost: float, now_s: float) -> tuple[bool, tuple[TokenBucket, ...], int]:
    """Take `cost` tokens from every bucket or from none.

    Returns whether they were granted, the buckets, and the index of the one to show: the first of the emptiest ones, or
    on a refusal of those that have the tokens last.
    """
    filled = [bucket.filled(now_s) for bucket in buckets]
    if all(bucket.remaining >= cost for bucket in filled):
        taken = tuple(bucket.without(cost) for bucket in filled)
        return True, taken, min(range(len(taken)), key=lambda index: taken[index].remaining)
    return False, tuple(filled), max(range(len(filled)), key=lambda index: _missing_s(filled[index], cost))


def _missing_s(bucket: TokenBucket, cost: float) -> float:
    return (cost - bucket.remaining) / bucket.limit.refill_per_s


def retry_after_s(limit: Limit, remaining: float, cost: float) -> int:
    """Return the whole seconds, at least one, until `cost` tokens are available (RFC 9110 section 10.2.3)."""
    return max(1, ceil((cost - remaining) / limit.refill_per_s))


def full_after_s(limit: Limit, remaining: float) -> int:
    """Return the whole seconds until the bucket is full."""
    return ceil((limit.capacity - remaining) / limit.refill_per_s)
