"""Loads of missing keys from the directory into the projection: many keys in one query, each key once at a time.

A load does not decide: the checker queries the projection again after the record is written.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import count, islice
from time import perf_counter
from typing import Self, TypeAlias

from authz.core.check import Deny, Held, KeyState, Take, TakeOutcome
from authz.core.errors import StoreUnavailable
from authz.core.value import Value
from authz.service.check.batch import PendingCheck
from authz.service.check.invalid_keys import InvalidKeys
from authz.service.check.tasks import Tasks
from authz.service.ports import CheckObserver, KeyDirectory, KeyProjection

LOADS_MAX = 10_000
"""The most keys that are loaded or wait for it; beyond it, checks of other missing keys are refused."""

KEYS_MAX = 128
"""The most keys of one load: they occupy the event loop about as long as one turn of checks."""

_AGAIN_PAUSE_S = 0.01
_OTHER_EPOCH = StoreUnavailable("redis", "another epoch started during a load")

Loaded: TypeAlias = Callable[[Sequence[PendingCheck], StoreUnavailable | Take | None], None]
"""Called with the checks that waited: a failure, a take that ends them, or None to query the projection again."""


class LoadOutcome(StrEnum):
    """The outcome of the load of a key, or, for `LATE`, of a check that waited for one."""

    FOUND = "found"
    UNKNOWN = "unknown"
    FAILED = "failed"
    LATE = "late"


class LoadLimits(Value):
    """How many loads run at once, and how long after its arrival a check may wait for one, in seconds."""

    loads_max: int = 4
    wait_s: float = 0.13

    @classmethod
    def within(cls, connections: int, wait_s: float) -> Self:
        """Return limits that leave connections to changes, last uses and the probe, which need one as well."""
        return cls(max(1, connections - 2), wait_s)


class KeyLoads:
    """Writes missing key records into the projection.

    A load reads all keys that were missed before the directory reads. A check that has waited as long as its caller can
    wait is refused; the load continues, so that the next check of the key finds the record.
    """

    def __init__(
        self,
        projection: KeyProjection,
        directory: KeyDirectory,
        observer: CheckObserver,
        invalid_keys: InvalidKeys,
        loaded: Loaded,
        *,
        limits: LoadLimits = LoadLimits(),  # noqa: B008 -- a frozen value
    ) -> None:
        self._projection = projection
        self._directory = directory
        self._observer = observer
        self._invalid_keys = invalid_keys
        self._loaded = loaded
        self._limits = limits
        self._waiting: dict[bytes, dict[int, PendingCheck]] = {}
        self._queue: dict[bytes, None] = {}
        self._deadlines: deque[tuple[float, bytes, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._numbers = count()
        self._running = 0
        self._beginning = 0  # loads that have not taken their keys yet
        self._tasks = Tasks()
        self.outcomes = Counter(dict.fromkeys(LoadOutcome, 0))

    def begin(self, check: PendingCheck) -> Deny | StoreUnavailable | None:
        """Load the key of a check, or join the load in progress; return the refusal if neither is done."""
        digest = check.lookup.digest
        if check.batch.loaded:
            return StoreUnavailable("redis", "lost a record that was just written")
        if digest not in self._waiting:
            if len(self._waiting) >= LOADS_MAX:
                return StoreUnavailable("postgres", "too many keys are being loaded")
            refusal = self._invalid_keys.refuse_load(check.batch.policy.invalid_keys, check.attributes, check.lookup)
            if refusal is not None:
                return refusal
            self._waiting[digest] = {}
            self._enqueue(digest)
        number = next(self._numbers)
        self._waiting[digest][number] = check
        self._deadlines.append((check.batch.started_s + self._limits.wait_s, digest, number))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._limits.wait_s, self._answer_late)
        return None

    async def close(self) -> None:
        """Wait for the loads in progress, and for those of all checks that wait."""
        while self._waiting:
            await self._tasks.finish()
            await asyncio.sleep(_AGAIN_PAUSE_S)
        if self._timer is not None:
            self._timer.cancel()

    def _enqueue(self, digest: bytes) -> None:
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._load_queued)
        self._queue[digest] = None

    def _load_queued(self) -> None:
        # A load takes its keys when the directory is about to read, so one that begins is enough for the keys that
        # arrive meanwhile.
        while self._running < self._limits.loads_max and len(self._queue) > self._beginning * KEYS_MAX:
            self._running += 1
            self._beginning += 1
            self._tasks.begin(self._load())

    def _next_keys(self) -> dict[bytes, str]:
        """Take keys from the queue, each with its present epoch."""
        self._beginning -= 1
        digests = list(islice(self._queue, KEYS_MAX))
        for digest in digests:
            del self._queue[digest]
        if self._queue:
            self._load_queued()
        # The epochs are read before the rows: a store that restarts in between must not receive rows that may have
        # changed meanwhile.
        return {digest: self._projection.epoch_of(digest) for digest in digests}

    async def _load(self) -> None:
        failure, started_s = StoreUnavailable("postgres", "the load was interrupted"), perf_counter()
        epochs: dict[bytes, str] | None = None
        left: set[bytes] = set()

        def next_keys() -> Sequence[bytes]:
            nonlocal epochs
            epochs = self._next_keys()
            left.update(epochs)
            return list(epochs)

        try:
            async with self._directory.hold(next_keys) as records:
                self._observer.store_answered("postgres", perf_counter() - started_s)
                await self._write(records, epochs or {}, left)
            if left:
                asyncio.get_running_loop().call_later(_AGAIN_PAUSE_S, self._load_again, list(left))
                left.clear()
        except StoreUnavailable as error:
            failure = error
        finally:
            if epochs is None:
                left.update(self._next_keys())  # the keys that it would have read
            self._running -= 1
            self.outcomes[LoadOutcome.FAILED] += len(left)
            for digest in left:
                self._finish(digest, failure)
            self._load_queued()

    async def _write(self, records: Mapping[bytes, Held], epochs: Mapping[bytes, str], left: set[bytes]) -> None:
        """Write locked records into the projection and go on with their checks; remove them from what is left."""
        self._answer_unknown(records)
        unknown = sum(held.key.state is KeyState.UNKNOWN for held in records.values())
        self.outcomes[LoadOutcome.UNKNOWN] += unknown
        self.outcomes[LoadOutcome.FOUND] += len(records) - unknown
        writes = (self._put(digest, record, epochs[digest]) for digest, record in records.items())
        # Every write, also if this is cancelled: the lock must not end before the last of them can have no effect.
        results = await asyncio.gather(*writes, return_exceptions=True)
        for digest, result in zip(records, results, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, StoreUnavailable):
                raise result
            if result is not _OTHER_EPOCH:
                left.discard(digest)
                self._finish(digest, result)

    def _load_again(self, digests: Sequence[bytes]) -> None:
        """Load keys that were being changed, or whose store has another epoch now, if a check still waits for them."""
        for digest in digests:
            if self._waiting[digest]:
                self._enqueue(digest)
            else:
                self._finish(digest, None)

    async def _put(self, digest: bytes, held: Held, epoch: str) -> StoreUnavailable | None:
        """Write the records of a key and its account; a check needs both."""
        try:
            written = await self._projection.put(digest, held.key, epoch=epoch)
            if held.account is not None:
                written = await self._projection.put_account(held.account, epoch=epoch) and written
        except StoreUnavailable as error:
            return error
        return None if written or self._projection.epoch_of(digest) == epoch else _OTHER_EPOCH

    def _answer_unknown(self, records: Mapping[bytes, Held]) -> None:
        # These checks need not wait until the projection has the record.
        for digest, held in records.items():
            if held.key.state is KeyState.UNKNOWN:
                checks, self._waiting[digest] = self._waiting[digest], {}
                self._loaded(list(checks.values()), Take(TakeOutcome.UNKNOWN, held.key))

    def _finish(self, digest: bytes, result: StoreUnavailable | None) -> None:
        self._invalid_keys.loaded(digest)
        self._loaded(list(self._waiting.pop(digest).values()), result)

    def _answer_late(self) -> None:
        now_s, late = perf_counter(), list[PendingCheck]()
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, digest, number = self._deadlines.popleft()
            check = self._waiting.get(digest, {}).pop(number, None)
            if check is not None:
                late.append(check)
        self.outcomes[LoadOutcome.LATE] += len(late)
        if late:
            self._loaded(late, StoreUnavailable("postgres", "the key is still being loaded (AUTHZ_LOAD_WAIT_S)"))
        self._timer = None
        if self._deadlines:
            wait_s = max(0.001, self._deadlines[0][0] - now_s)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._answer_late)
