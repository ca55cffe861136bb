"""The times of the last use of keys: recorded during checks, written in batches.

The projection selects the uses to record. A process that dies loses the records of its last interval; the next use of
the key replaces them, half a minute later.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from math import ceil

from authz.service.ports import UseLedger

NOTES_MAX = 100_000
"""The most uses that are kept while they cannot be written; the oldest are dropped first."""

# A write delays checks, even if it is small: writes must be rare enough to affect less than one check in a hundred, and
# frequent enough that no check waits long.
_PACE_S = 0.25
_BATCH_MIN, _BATCH_MAX = 20, 500


class KeyUses:
    """The uses that are not yet written. `now` returns the time with its zone."""

    def __init__(self, ledger: UseLedger, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._now = now
        self._unwritten: dict[str, datetime] = {}
        self.dropped = 0

    def waiting(self) -> int:
        """Return the number of uses that are not yet written."""
        return len(self._unwritten)

    def note(self, key_id: str) -> None:
        """Record that a key is used now; never waits, never raises."""
        self._unwritten.pop(key_id, None)  # reinsert it at the end
        self._unwritten[key_id] = self._now()
        if len(self._unwritten) > NOTES_MAX:
            del self._unwritten[next(iter(self._unwritten))]
            self.dropped += 1

    async def write(self, within_s: float = 0) -> None:
        """Write the recorded uses, the oldest first, spread evenly over `within_s` seconds (0: at once).

        Raises `StoreUnavailable`; uses that were not written are kept.
        """
        left = len(self._unwritten)
        fair = ceil(left / max(1, within_s // _PACE_S))
        size = min(max(fair, _BATCH_MIN), _BATCH_MAX)
        pause_s = min(_PACE_S, within_s / max(1, ceil(left / size)))
        while left > 0 and self._unwritten:
            batch = dict(islice(self._unwritten.items(), min(left, size)))
            await self._ledger.note_uses(batch)
            for key_id, used_at in batch.items():
                if self._unwritten.get(key_id) == used_at:
                    del self._unwritten[key_id]
            left -= len(batch)
            await asyncio.sleep(pause_s)
