"""When keys were last used: noted as checks go by, written a batch at a time.

Which uses are worth a note is the projection's business. A process that dies takes the notes of its last interval
along; the key's next use makes them good, half a minute later.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from itertools import islice

from authz.core.errors import StoreUnavailable
from authz.service.ports import UseLedger

NOTES_MAX = 100_000
"""Keys whose uses are remembered while they cannot be written; beyond it the oldest notes are forgotten."""

# What is written so fast that no check waits for it, and the pause in which those that did are caught up with.
_BATCH = 100
_PAUSE_S = 0.02


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

    async def write(self, pause_s: float = 0) -> None:
        """Write what is noted, the oldest first, with a pause after each batch.

        Raises `StoreUnavailable`, and what is not written stays noted.
        """
        left = len(self._noted)
        while left > 0 and self._noted:
            batch = dict(islice(self._noted.items(), min(left, _BATCH)))
            await self._ledger.note_uses(batch)
            for key_id, used_at in batch.items():
                if self._noted.get(key_id) == used_at:
                    del self._noted[key_id]
            left -= len(batch)
            await asyncio.sleep(pause_s)


async def keep_writing(uses: KeyUses, interval_s: float, report: Callable[[Exception], None]) -> None:
    """Write what is noted every `interval_s` seconds, for ever; report each round that failed."""
    while True:
        await asyncio.sleep(interval_s)
        try:
            await uses.write(_PAUSE_S)
        except StoreUnavailable as error:
            report(error)
