"""Background loops that survive every failure of a round, and report it once per change of its cause.

What a round does, and what is measured from it, is decided by the composition roots.
"""

import asyncio
import logging
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from authz.core.errors import NotEffectiveYet, StoreUnavailable

_log = logging.getLogger("authz.background")

Round = Callable[[], Awaitable[object]]
"""One turn of a loop. Whatever it raises is reported, and the next turn follows all the same."""


class Supervisor:
    """The background loops of one process. `failures` counts failed rounds, `faults` holds present causes, by loop.

    `names` are the loops that the process will have: each is counted from the start.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.failures: Counter[str] = Counter(dict.fromkeys(names, 0))
        self.faults: dict[str, str] = {}
        self._events: dict[str, str] = {}
        self._is_stopped = False
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self, name: str, work: Round, interval_s: float, *, event: str = "a background loop failed") -> None:
        """Run a round now, and another `interval_s` seconds after each began, or at once after a longer one.

        `event` is what the log calls a failure.
        """
        self.failures[name] += 0
        self._events[name] = event
        self._tasks.append(asyncio.get_running_loop().create_task(self._keep(name, work, interval_s)))

    async def stop(self) -> None:
        """Cancel every loop and wait for its end."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, name: str, work: Round, interval_s: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            next_at_s = loop.time() + interval_s
            try:
                await work()
            except asyncio.CancelledError as error:
                if self._is_stopped:
                    raise
                self._failed(name, error)  # something that the round waited for was cancelled
            except Exception as error:  # noqa: BLE001 -- a loop that ends is an outage that nobody sees
                self._failed(name, error)
            else:
                self._succeeded(name)
            await asyncio.sleep(max(0.0, next_at_s - loop.time()))

    def _failed(self, name: str, error: BaseException) -> None:
        self.failures[name] += 1
        cause = _cause(error)
        if self.faults.get(name) != cause:
            self.faults[name] = cause
            _log.warning(self._events[name], extra={"loop": name, "error": cause})

    def _succeeded(self, name: str) -> None:
        if self.faults.pop(name, None) is not None:
            _log.info("a background loop recovered", extra={"loop": name})


def _cause(error: BaseException) -> str:
    if isinstance(error, StoreUnavailable | NotEffectiveYet):
        return str(error)
    # Messages of other errors may quote values. Where one was raised says enough to find it.
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
