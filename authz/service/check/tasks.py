"""Background tasks: referenced until they end, and awaited when their owner closes.

The event loop holds only weak references, so a task without another one may disappear.
"""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """The tasks of one owner, at most `most` at once."""

    def __init__(self, most: int = sys.maxsize) -> None:
        self.running: set[asyncio.Task[None]] = set()
        self._most = most

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task; drop it if the maximum is running."""
        if len(self.running) >= self._most:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def finish(self, within_s: float | None = None) -> None:
        """Wait until no task is left; cancel those that still run after `within_s` seconds."""
        while self.running:
            _, late = await asyncio.wait(self.running, timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
