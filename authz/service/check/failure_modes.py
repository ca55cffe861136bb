"""The decision on a check during an outage of a store, as the operator chose: refuse, or use recently seen keys.

Each recently seen key has a local bucket, and so has its account. Of changes that are made during the outage, Postgres
tells (`follow`), and so do replies that come late (`learn`).
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from weakref import WeakValueDictionary

from authz.core.buckets.bucket_set import BucketSet
from authz.core.check import Bucket, KeyRecord, KeyState, Lookup, Take, TakeOutcome
from authz.core.limits import ACCOUNT_ITEM, KeyLimits, Limit, TokenBucket, take_all, take_both
from authz.service.ports import Changes

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


@dataclass(slots=True, weakref_slot=True)
class _Account:
    """What the recently seen keys of an account share. `tokens` is None until the account's bucket was seen."""

    tokens: TokenBucket | None = None
    is_suspended: bool = False


@dataclass(slots=True)
class _Seen:
    record: KeyRecord
    tokens: TokenBucket
    seen_at_s: float
    account: _Account
    account_limit: Limit | None
    further: dict[str, TokenBucket] = field(default_factory=dict)


class RecentKeys:
    """The last `size` valid keys, each usable for `window_s` seconds after its latest successful check.

    `now_s` is Unix time in seconds, because expiry times are calendar times. `steady_s` is a clock that nobody sets,
    for the window and the buckets.
    """

    def __init__(
        self,
        *,
        size: int,
        window_s: float,
        now_s: Callable[[], float],
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._size = size
        self._window_s = window_s
        self._unix_s = now_s
        self._steady_s = steady_s
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        # What is known of changes: the revisions that keys have at least, and accounts that are suspended.
        self._revisions: OrderedDict[bytes, int] = OrderedDict()
        self._suspended: OrderedDict[str, None] = OrderedDict()
        # An account is kept as long as one of its keys is.
        self._accounts: WeakValueDictionary[str, _Account] = WeakValueDictionary()

    def remember(self, digest: bytes, take: Take) -> None:
        """Store the result of a check; a refused key is removed, and so are all keys of a suspended account."""
        if self._revisions and take.record.revision < self._revisions.get(digest, 0):
            return  # an answer that was given before a change of the key
        bucket, account = take.bucket, self._accounts.get(take.record.account_id)
        if take.outcome not in _VALID or bucket is None:
            self._seen.pop(digest, None)
            if account is not None and take.outcome is TakeOutcome.SUSPENDED:
                account.is_suspended = True
            return
        now_s = self._steady_s()
        if account is None:
            account = self._accounts.setdefault(take.record.account_id, _Account())
        account.is_suspended = False
        limits = bucket.limits
        tokens, account_limit = TokenBucket(bucket.limit, bucket.remaining, now_s), limits.other
        further: dict[str, TokenBucket] = {}
        if limits.quotas is not None:
            tokens, further = self._several(digest, bucket, tokens)
            if limits.is_account:
                account.tokens = TokenBucket(bucket.limit, bucket.remaining, now_s)
            account_limit = next((it.limit for it in limits.quotas.items if it.name == ACCOUNT_ITEM), None)
        elif limits.is_account:
            # The account's bucket is the emptier one, so that it decides.
            account.tokens, account_limit = tokens, bucket.limit
            limit = limits.other or bucket.limit
            tokens = TokenBucket(limit, limit.capacity, now_s)
        self._seen[digest] = _Seen(take.record, tokens, now_s, account, account_limit, further)
        self._seen.move_to_end(digest)
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)

    async def follow(self, changes: Changes) -> None:
        """Apply the changes since the previous call: forget keys that were stopped. Raises `StoreUnavailable`."""
        for changed in await changes.changed():
            self._suspended.pop(changed.account_id, None)
            if changed.is_suspended:
                self._suspended[changed.account_id] = None
            if changed.key is not None:
                self._renew(*changed.key)
        for memory in (self._suspended, self._revisions):
            while len(memory) > self._size:
                memory.popitem(last=False)

    def _renew(self, digest: bytes, record: KeyRecord) -> None:
        self._revisions[digest] = record.revision
        self._revisions.move_to_end(digest)
        seen = self._seen.get(digest)
        if seen is not None and seen.record.revision < record.revision:
            if record.state is KeyState.ACTIVE:
                seen.record = record
            else:
                del self._seen[digest]

    def learn(self, digest: bytes, take: Take | None) -> None:
        """Store what became known of a key after its check was decided; None if its record has changed."""
        if take is None:
            self._seen.pop(digest, None)
        else:
            self.remember(digest, take)

    def _several(self, digest: bytes, bucket: Bucket, shown: TokenBucket) -> tuple[TokenBucket, dict[str, TokenBucket]]:
        """Return the bucket of the key and its further ones: the shown one is known, the others are as they were."""
        seen, quotas = self._seen.get(digest), bucket.limits.quotas
        items, name = ((), "") if quotas is None else (quotas.items, quotas.name)
        first = items[0].limit
        further = {} if seen is None else seen.further
        tokens = TokenBucket(first, first.capacity, shown.at_s) if seen is None else seen.tokens
        if name == items[0].name:
            tokens = shown
        elif not bucket.limits.is_account:
            further = further | {name: shown}
        return tokens, further

    def take(
        self, lookup: Lookup, default: Limit, *, account: Limit | None = None, limits: KeyLimits | None = None
    ) -> Take | None:
        """Replace the store's answer; None for a key that was not seen recently."""
        seen, now_s = self._seen.get(lookup.digest), self._steady_s()
        if seen is None or now_s - seen.seen_at_s > self._window_s or seen.account.is_suspended:
            return None
        if self._suspended and seen.record.account_id in self._suspended:
            return None
        if 0 < seen.record.expires_at_ms <= self._unix_s() * 1000:
            return Take(TakeOutcome.EXPIRED, seen.record)
        if limits is not None:
            return _taken_from_all(seen, lookup, limits, account, now_s)
        limit = seen.record.limit or default
        seen.tokens = seen.tokens.under(limit)
        if account is None:
            granted, seen.tokens = seen.tokens.take(lookup.cost, now_s)
            outcome = TakeOutcome.GRANTED if granted else TakeOutcome.LIMITED
            return Take(outcome, seen.record, Bucket.of(limit, seen.tokens.remaining))
        return _taken_from_both(seen, lookup.cost, limit, seen.account_limit or account, now_s)


def _taken_from_both(seen: _Seen, cost: int, limit: Limit, account_limit: Limit, now_s: float) -> Take:
    tokens = seen.account.tokens or TokenBucket(account_limit, account_limit.capacity, now_s)
    granted, seen.tokens, tokens, is_account = take_both(seen.tokens, tokens.under(account_limit), cost, now_s)
    seen.account.tokens = tokens
    outcome = TakeOutcome.GRANTED if granted else TakeOutcome.LIMITED
    if is_account:
        return Take(outcome, seen.record, Bucket.of(account_limit, tokens.remaining, limit, is_account=True))
    return Take(outcome, seen.record, Bucket.of(limit, seen.tokens.remaining, account_limit))


def _taken_from_all(seen: _Seen, lookup: Lookup, limits: KeyLimits, account: Limit | None, now_s: float) -> Take:
    row = () if lookup.route is None else lookup.route.limits
    items = limits.of(seen.record.plan, seen.record.limit, row)
    shared = None if account is None else seen.account_limit or account
    applied = BucketSet(items, shared)
    held = {**seen.further, items[0].name: seen.tokens}
    if seen.account.tokens is not None:
        held[ACCOUNT_ITEM] = seen.account.tokens
    listed = applied.listed
    buckets = [held.get(it.name, TokenBucket(it.limit, it.limit.capacity, now_s)).under(it.limit) for it in listed]
    granted, after, shown = take_all(buckets, lookup.cost, now_s)
    left = dict(zip((it.name for it in listed), after, strict=True))
    if shared is not None:
        seen.account.tokens = left.pop(ACCOUNT_ITEM)
    seen.tokens = left.pop(items[0].name)
    seen.further |= left
    outcome = TakeOutcome.GRANTED if granted else TakeOutcome.LIMITED
    return Take(outcome, seen.record, applied.bucket(shown, after[shown].remaining))
