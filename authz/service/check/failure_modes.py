"""What a check does while a store is out of reach, by the operator's choice: refuse, or go on with keys seen lately.

The keys seen lately have a local bucket each, and know nothing of revocations made meanwhile.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from authz.core.check import Bucket, KeyRecord, Lookup, Take, TakeOutcome
from authz.core.limits import Limit, TokenBucket

_VALID = frozenset({TakeOutcome.GRANTED, TakeOutcome.LIMITED})


class FailureMode(StrEnum):
    """What a store out of reach means for a check."""

    DENY = "deny"
    DEGRADE = "degrade"


@dataclass(frozen=True, slots=True)
class FailureModes:
    """The failure mode of each store."""

    redis: FailureMode = FailureMode.DENY
    postgres: FailureMode = FailureMode.DENY

    def degrades(self, store: str) -> bool:
        """Tell whether recently seen keys keep working while `store` is out of reach."""
        return {"redis": self.redis, "postgres": self.postgres}[store] is FailureMode.DEGRADE


@dataclass(slots=True)
class _Seen:
    record: KeyRecord
    tokens: TokenBucket
    seen_at_s: float


class RecentKeys:
    """The last `size` valid keys, each usable for `window_s` seconds after the store last vouched for it.

    `now_s` is Unix time in seconds, because keys expire by the calendar.
    """

    def __init__(self, *, size: int, window_s: float, now_s: Callable[[], float]) -> None:
        self._size = size
        self._window_s = window_s
        self._now_s = now_s
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    def remember(self, digest: bytes, take: Take) -> None:
        """Note what the store said; a key that it refused is forgotten."""
        if take.outcome not in _VALID or take.bucket is None:
            self._seen.pop(digest, None)
            return
        now_s = self._now_s()
        tokens = TokenBucket(take.bucket.limit, take.bucket.remaining, now_s)
        self._seen[digest] = _Seen(take.record, tokens, now_s)
        self._seen.move_to_end(digest)
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)

    def take(self, lookup: Lookup, default: Limit) -> Take | None:
        """Answer in the store's place; None for a key not seen lately."""
        seen, now_s = self._seen.get(lookup.digest), self._now_s()
        if seen is None or now_s - seen.seen_at_s > self._window_s:
            return None
        if 0 < seen.record.expires_at_ms <= now_s * 1000:
            return Take(TakeOutcome.EXPIRED, seen.record)
        limit = seen.record.limit or default
        seen.tokens = seen.tokens.under(limit)
        granted, seen.tokens = seen.tokens.take(lookup.cost, now_s)
        outcome = TakeOutcome.GRANTED if granted else TakeOutcome.LIMITED
        return Take(outcome, seen.record, Bucket(limit, seen.tokens.remaining))
