"""When keys were last used: noted as checks go by, written a batch at a time.

Which uses are worth a note is the projection's business. A process that dies takes the notes of its last interval
along; the key's next use makes them good, half a minute later.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from math import ceil

from authz.core.errors import StoreUnavailable
from authz.service.ports import UseLedger

NOTES_MAX = 100_000
"""Keys whose uses are remembered while they cannot be written; beyond it the oldest notes are forgotten."""

# Checks wait for a write, even for one of few uses: it has to come seldom enough that not one check in a hundred feels
# it, and often enough that none waits for long.
_PACE_S = 0.25
_BATCH_MIN, _BATCH_MAX = 20, 500


class KeyUses:
    """The uses noted and not yet written. `now` is the time with its zone."""

    def __init__(self, ledger: UseLedger, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._now = now
        self._noted: dict[str, datetime] = {}

    def note(self, key_id: str) -> None:
        """Note that a key was used just now; never waits, never raises."""
        self._noted.pop(key_id, None)  # so that it goes to the end
        self._noted[key_id] = self._now()
        if len(self._noted) > NOTES_MAX:
            del self._noted[next(iter(self._noted))]

    async def write(self, within_s: float = 0) -> None:
        """Write what is noted, the oldest first, evenly within some seconds, or at once.

        Raises `StoreUnavailable`, and what is not written stays noted.
        """
        left = len(self._noted)
        fair = ceil(left / max(1, within_s // _PACE_S))
        size = min(max(fair, _BATCH_MIN), _BATCH_MAX)
        pause_s = min(_PACE_S, within_s / max(1, ceil(left / size)))
        while left > 0 and self._noted:
            batch = dict(islice(self._noted.items(), min(left, size)))
            await self._ledger.note_uses(batch)
            for key_id, used_at in batch.items():
                if self._noted.get(key_id) == used_at:
                    del self._noted[key_id]
            left -= len(batch)
            await asyncio.sleep(pause_s)


async def keep_writing(uses: KeyUses, interval_s: float, report: Callable[[Exception], None]) -> None:
    """Write what was noted in each `interval_s` seconds during the next, for ever; report each round that failed."""
    loop = asyncio.get_running_loop()
    while True:
        ends_at_s = loop.time() + interval_s
        try:
            await uses.write(interval_s)
        except StoreUnavailable as error:
            report(error)
        await asyncio.sleep(ends_at_s - loop.time())
