"""Loads of missing keys from the directory into the projection: one at a time for each key.

A load does not decide: the checker queries the projection again after the record is written.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TypeAlias

from authz.core.check import Deny, KeyState, Take, TakeOutcome
from authz.core.errors import StoreUnavailable
from authz.service.check.batch import PendingCheck
from authz.service.check.invalid_keys import InvalidKeys
from authz.service.check.tasks import Tasks
from authz.service.ports import CheckObserver, KeyDirectory, KeyProjection

LOADS_MAX = 1000
"""The most concurrent loads; beyond it, checks of keys that the projection does not hold are refused."""

Loaded: TypeAlias = Callable[[Sequence[PendingCheck], StoreUnavailable | Take | None], None]
"""Called with the checks that waited: a failure, a take that ends them, or None to query the projection again."""


class KeyLoads:
    """Writes missing key records into the projection."""

    def __init__(
        self,
        projection: KeyProjection,
        directory: KeyDirectory,
        observer: CheckObserver,
        invalid_keys: InvalidKeys,
        loaded: Loaded,
    ) -> None:
        self._projection = projection
        self._directory = directory
        self._observer = observer
        self._invalid_keys = invalid_keys
        self._loaded = loaded
        self._waiting: dict[bytes, list[PendingCheck]] = {}
        self._tasks = Tasks()

    def begin(self, check: PendingCheck) -> Deny | StoreUnavailable | None:
        """Load the key of a check, or join the load in progress; return the refusal if neither is done."""
        digest = check.lookup.digest
        if check.batch.loaded:
            return StoreUnavailable("redis", "lost a record that was just written")
        waiting = self._waiting.get(digest)
        if waiting is not None:
            waiting.append(check)
            return None
        if len(self._waiting) >= LOADS_MAX:
            return StoreUnavailable("postgres", "too many keys are being loaded")
        refusal = self._invalid_keys.refuse_load(check.batch.policy.invalid_keys, check.attributes, check.lookup)
        if refusal is None:
            self._waiting[digest] = [check]
            self._tasks.begin(self._load(digest))
        return refusal

    async def close(self) -> None:
        """Wait for the loads in progress."""
        await self._tasks.finish()

    async def _load(self, digest: bytes) -> None:
        result: StoreUnavailable | None = StoreUnavailable("postgres", "the load was interrupted")
        started_s = perf_counter()
        try:
            # The epoch is read before the row: a store that restarts in between must not receive a row that may have
            # changed meanwhile.
            epoch = self._projection.epoch_of(digest)
            async with self._directory.hold(digest) as record:
                self._observer.store_answered("postgres", perf_counter() - started_s)
                if record.state is KeyState.UNKNOWN:
                    # These checks need not wait until the projection has the record.
                    checks, self._waiting[digest] = self._waiting[digest], []
                    self._loaded(checks, Take(TakeOutcome.UNKNOWN, record))
                await self._projection.put(digest, record, epoch=epoch)
            result = None
        except StoreUnavailable as error:
            result = error
        finally:
            self._invalid_keys.loaded(digest)
            self._loaded(self._waiting.pop(digest), result)
