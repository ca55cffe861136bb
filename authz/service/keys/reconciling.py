"""Makes durable changes effective in the projection, retries those that are not, and deletes keys that ended long ago.

What may change is decided in `admin.py`. Every batch is bounded: of what is written at once, and of what is deleted.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from time import monotonic

from authz.core.errors import NotEffectiveYet, StoreUnavailable
from authz.service.ports import KeyLedger, KeyProjection

BATCH_ROWS = 1000
"""How many pending changes are read at once."""

DELETED_ROWS = 100
"""How many ended keys are deleted at once: few enough for the deadline of a sidecar's queries."""

DELETION_INTERVAL_S = 60.0
_DELETION_BATCHES = 50


class Reconciler:
    """Writes the present records of changed keys and accounts while the ledger locks their rows.

    A record that was read earlier is not sufficient: if Redis loses its data, an older record on its way there could
    pass for the newest, and undo a revocation.
    """

    def __init__(self, ledger: KeyLedger, projection: KeyProjection) -> None:
        self._ledger = ledger
        self._projection = projection

    async def settle(self, key_ids: Sequence[str], account_ids: Sequence[str] = ()) -> None:
        """Write some records, accounts first; raises `NotEffectiveYet` if one could not be written."""
        failure = await self._settle_all(account_ids, self._settle_account) or await self._settle_all(
            key_ids, self._settle_key
        )
        if failure is not None:
            raise NotEffectiveYet(f"durable, but not effective yet: {failure}; it is retried until it is") from failure

    async def reconcile(self, *, everything: bool = False) -> int:
        """Write pending records, or with `everything` all, in batches; returns how many were written."""
        failure: NotEffectiveYet | None = None
        count = 0
        for pending, is_account in ((self._ledger.pending_accounts, True), (self._ledger.pending, False)):
            after = ""
            while True:
                found = await pending(everything=everything, after=after, rows_max=BATCH_ROWS)
                try:
                    await (self.settle([], found) if is_account else self.settle(found))
                except NotEffectiveYet as error:
                    failure = error
                count += len(found)
                # What is left of pending changes after a failure is the next round's.
                if len(found) < BATCH_ROWS or (failure is not None and not everything):
                    break
                after = found[-1]
        if failure is not None:
            raise failure
        return count

    async def _settle_key(self, key_id: str) -> bool:
        return await self._ledger.settle(key_id, self._projection.put)

    async def _settle_account(self, account_id: str) -> bool:
        return await self._ledger.settle_account(account_id, self._projection.put_account)

    async def _settle_all(
        self, ids: Sequence[str], settle: Callable[[str], Awaitable[bool]]
    ) -> StoreUnavailable | None:
        failure: StoreUnavailable | None = None
        for found in ids:
            try:
                if not await settle(found):
                    # Only a Postgres put back to an older state has seen fewer revisions than Redis.
                    failure = StoreUnavailable("postgres", f"older than what Redis holds of {found}")
            except StoreUnavailable as error:
                failure = error
                if error.store == "redis":
                    break  # that concerns every record; in Postgres one row may be locked
        return failure


class Retention:
    """Deletes keys that ended long ago, a bounded number at a time; their audit lines stay.

    `keep` is how long they are kept after their end; zero keeps them for ever. `now` is the time with its zone.
    """

    def __init__(self, ledger: KeyLedger, keep: timedelta, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._keep = keep
        self._now = now
        self._next_s = 0.0

    async def delete_when_due(self) -> int:
        """Delete a bounded number of keys, at most once in `DELETION_INTERVAL_S`; raises `StoreUnavailable`."""
        if not self._keep or monotonic() < self._next_s:
            return 0
        self._next_s = monotonic() + DELETION_INTERVAL_S
        before, count = self._now() - self._keep, 0
        for _ in range(_DELETION_BATCHES):
            deleted = await self._ledger.delete_ended(before, DELETED_ROWS)
            count += deleted
            if deleted < DELETED_ROWS:
                break
        return count
