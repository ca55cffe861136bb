"""A projection in memory for tests of its users; it satisfies the same contract as Redis."""

import asyncio
import time
from collections.abc import Sequence

from authz.core.check import Bucket, KeyRecord, KeyState, Lookup, Take, TakeOutcome
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit, TokenBucket
from authz.service.ports import Taken, TakeReply


class MemoryProjection:
    """Keeps the newest record of each key, and its bucket, as Redis does; `is_down` makes it fail."""

    def __init__(self) -> None:
        self._life = 1
        self.records: dict[bytes, KeyRecord] = {}
        self.is_down = False
        self._buckets: dict[bytes, TokenBucket] = {}

    async def start_new_epoch(self) -> None:
        """Void every record, as a promotion does."""
        self._life += 1
        self.records.clear()

    def epoch_of(self, digest: bytes) -> str:  # noqa: ARG002 -- all keys are in one place
        return f"e{self._life}"

    def take(self, lookups: Sequence[Lookup], default: Limit, taken: Taken) -> None:
        def answer() -> None:
            taken(range(len(lookups)), [self._take(lookup, default) for lookup in lookups])

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

    def _take(self, lookup: Lookup, default: Limit) -> TakeReply:
        if self.is_down:
            return StoreUnavailable("redis", "not connected")
        record, now_s = self.records.get(lookup.digest), time.time()
        if record is None:
            return None
        if record.state is not KeyState.ACTIVE:
            return Take(TakeOutcome(record.state), record)
        if 0 < record.expires_at_ms <= now_s * 1000:
            return Take(TakeOutcome.EXPIRED, record)
        limit = record.limit or default
        bucket = self._buckets.get(lookup.digest, TokenBucket(limit, limit.capacity, now_s))
        granted, bucket = bucket.under(limit).take(lookup.cost, now_s)
        self._buckets[lookup.digest] = bucket
        return Take(TakeOutcome.GRANTED if granted else TakeOutcome.LIMITED, record, Bucket(limit, bucket.remaining))
