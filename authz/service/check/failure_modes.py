"""The operator's choice while a store is unavailable: deny, or continue with recently used valid keys.

Each of these keys has a local bucket. Revocations made during the outage are not known.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from authz.core.check import Bucket, KeyRecord, Lookup, Take, TakeOutcome
from authz.core.limits import Limit, TokenBucket

_VALID = frozenset({TakeOutcome.GRANTED, TakeOutcome.LIMITED})


class FailureMode(StrEnum):
    """The reaction of a check to an unavailable store."""

    DENY = "deny"
    DEGRADE = "degrade"


@dataclass(frozen=True, slots=True)
class FailureModes:
    """The failure mode of each store."""

    redis: FailureMode = FailureMode.DENY
    postgres: FailureMode = FailureMode.DENY

    def degrades(self, store: str) -> bool:
        """Tell whether recently used keys keep working while `store` is unavailable."""
        return {"redis": self.redis, "postgres": self.postgres}[store] is FailureMode.DEGRADE


@dataclass(slots=True)
class _Recent:
    record: KeyRecord
    tokens: TokenBucket
    confirmed_at_s: float


class RecentKeys:
    """The last `size` valid keys, each usable for `window_s` seconds after the store last confirmed it.

    `now_s` is Unix time in seconds, because expiry times are calendar times.
    """

    def __init__(self, *, size: int, window_s: float, now_s: Callable[[], float]) -> None:
        self._size = size
        self._window_s = window_s
        self._now_s = now_s
        self._recent: OrderedDict[bytes, _Recent] = OrderedDict()

    def remember(self, digest: bytes, take: Take) -> None:
        """Record the store's reply; forget a key that it refused."""
        if take.outcome not in _VALID or take.bucket is None:
            self._recent.pop(digest, None)
            return
        now_s = self._now_s()
        tokens = TokenBucket(take.bucket.limit, take.bucket.remaining, now_s)
        self._recent[digest] = _Recent(take.record, tokens, now_s)
        self._recent.move_to_end(digest)
        if len(self._recent) > self._size:
            self._recent.popitem(last=False)

    def take(self, lookup: Lookup, default: Limit) -> Take | None:
        """Reply instead of the store; return None for a key that was not used recently."""
        recent, now_s = self._recent.get(lookup.digest), self._now_s()
        if recent is None or now_s - recent.confirmed_at_s > self._window_s:
            return None
        if 0 < recent.record.expires_at_ms <= now_s * 1000:
            return Take(TakeOutcome.EXPIRED, recent.record)
        limit = recent.record.limit or default
        recent.tokens = recent.tokens.under(limit)
        granted, recent.tokens = recent.tokens.take(lookup.cost, now_s)
        outcome = TakeOutcome.GRANTED if granted else TakeOutcome.LIMITED
        return Take(outcome, recent.record, Bucket(limit, recent.tokens.remaining))
