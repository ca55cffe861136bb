"""A projection in memory for tests of its users; it satisfies the same contract as Redis."""

import asyncio
import time
from collections.abc import Sequence

from authz.core.buckets.bucket_set import BucketSet
from authz.core.check import AccountRecord, Bucket, KeyRecord, KeyState, Lookup, Take, TakeOutcome
from authz.core.errors import StoreUnavailable
from authz.core.limits import ACCOUNT_ITEM, KeyLimits, Limit, NamedLimit, TokenBucket, take_all, take_both
from authz.service.ports import Taken, TakeReply


class MemoryProjection:
    """Keeps the newest record of each key, and its bucket, as Redis does; `is_down` makes it fail."""

    def __init__(self) -> None:
        self._life = 1
        self.records: dict[bytes, KeyRecord] = {}
        self.is_down = False
        self.accounts: dict[str, AccountRecord] = {}
        self._buckets: dict[bytes, TokenBucket] = {}
        self._account_buckets: dict[str, TokenBucket] = {}
        self._further: dict[tuple[bytes, str], TokenBucket] = {}

    async def start_new_epoch(self) -> None:
        """Void every record, as a promotion does."""
        self._life += 1
        self.records.clear()
        self.accounts.clear()

    def epoch_of(self, digest: bytes) -> str:  # noqa: ARG002 -- all keys are in one place
        return f"e{self._life}"

    def take(
        self,
        lookups: Sequence[Lookup],
        default: Limit,
        taken: Taken,
        *,
        account: Limit | None = None,
        limits: KeyLimits | None = None,
    ) -> None:
        def answer() -> None:
            taken(range(len(lookups)), [self.found(lookup, default, account, limits) for lookup in lookups])

        asyncio.get_running_loop().call_soon(answer)

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        if self.is_down:
            raise StoreUnavailable("redis", "not connected")
        if epoch not in {None, self.epoch_of(digest)}:
            return False
        held = self.records.get(digest)
        if held is not None and held.revision > record.revision:
            return False
        self.records[digest] = record
        return True

    async def put_account(self, record: AccountRecord, *, epoch: str | None = None) -> bool:
        if self.is_down:
            raise StoreUnavailable("redis", "not connected")
        if epoch not in {None, self.epoch_of(b"")}:
            return False
        held = self.accounts.get(record.account_id)
        if held is not None and held.revision > record.revision:
            return False
        self.accounts[record.account_id] = record
        return True

    async def settled(self) -> None:
        """Return at once: nobody else uses this memory."""

    def found(
        self,
        lookup: Lookup,
        default: Limit,
        account_default: Limit | None = None,
        limits: KeyLimits | None = None,
    ) -> TakeReply:
        """Answer one lookup."""
        if self.is_down:
            return StoreUnavailable("redis", "not connected")
        record, now_s = self.records.get(lookup.digest), time.time()
        if record is None:
            return None
        if record.state is not KeyState.ACTIVE:
            return Take(TakeOutcome(record.state), record)
        if 0 < record.expires_at_ms <= now_s * 1000:
            return Take(TakeOutcome.EXPIRED, record)
        account = self.accounts.get(record.account_id)
        if account is None:
            return None
        if account.is_suspended:
            return Take(TakeOutcome.SUSPENDED, record)
        if limits is not None:
            return self._from_all(
                lookup, record, BucketSet(_items(lookup, record, limits), account.limit(account_default))
            )
        limit, account_limit = record.limit or default, account.limit(account_default)
        bucket = self._buckets.get(lookup.digest, TokenBucket(limit, limit.capacity, now_s)).under(limit)
        if account_limit is None:
            granted, bucket = bucket.take(lookup.cost, now_s)
            shown = Bucket.of(limit, bucket.remaining)
        else:
            full = TokenBucket(account_limit, account_limit.capacity, now_s)
            of_account = self._account_buckets.get(record.account_id, full).under(account_limit)
            granted, bucket, of_account, is_account = take_both(bucket, of_account, lookup.cost, now_s)
            self._account_buckets[record.account_id] = of_account
            shown = Bucket.of(limit, bucket.remaining, account_limit)
            if is_account:
                shown = Bucket.of(account_limit, of_account.remaining, limit, is_account=True)
        self._buckets[lookup.digest] = bucket
        return Take(TakeOutcome.GRANTED if granted else TakeOutcome.LIMITED, record, shown)

    def _from_all(self, lookup: Lookup, record: KeyRecord, of: BucketSet) -> Take:
        now_s, first = time.time(), of.items[0].name

        def held(it: NamedLimit) -> TokenBucket | None:
            if it.name == first:
                return self._buckets.get(lookup.digest)
            if it.name == ACCOUNT_ITEM:
                return self._account_buckets.get(record.account_id)
            return self._further.get((lookup.digest, it.name))

        buckets = [(held(it) or TokenBucket(it.limit, it.limit.capacity, now_s)).under(it.limit) for it in of.listed]
        granted, after, shown = take_all(buckets, lookup.cost, now_s)
        for it, bucket in zip(of.listed, after, strict=True):
            if it.name == first:
                self._buckets[lookup.digest] = bucket
            elif it.name == ACCOUNT_ITEM:
                self._account_buckets[record.account_id] = bucket
            else:
                self._further[lookup.digest, it.name] = bucket
        outcome = TakeOutcome.GRANTED if granted else TakeOutcome.LIMITED
        return Take(outcome, record, of.bucket(shown, after[shown].remaining))


def _items(lookup: Lookup, record: KeyRecord, limits: KeyLimits) -> tuple[NamedLimit, ...]:
    return limits.of(record.plan, record.limit, () if lookup.route is None else lookup.route.limits)
