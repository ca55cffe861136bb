"""Background loops and single works that survive every failure, and report it once per change of its cause.

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

_STARTED_MAX = 200
_RETRY_S = 5.0
_FAILED = "a background loop failed"

Round = Callable[[], Awaitable[object]]
"""One turn of a loop. Whatever it raises is reported, and the next turn follows all the same."""


class BacklogFull(Exception):  # noqa: N818 -- named for the state of the supervisor
    """Too many single works are under way."""


class Supervisor:
    """The background work of one process. `failures` counts failed rounds, `faults` holds present causes, by name.

    `names` are the loops that the process will have: each is counted from the start.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.failures: Counter[str] = Counter(dict.fromkeys(names, 0))
        self.faults: dict[str, str] = {}
        self._events: dict[str, str] = {}
        self._is_stopped = False
        self._tasks: list[asyncio.Task[None]] = []
        self._started: set[asyncio.Task[None]] = set()

    def keep(self, name: str, work: Round, interval_s: float, *, event: str = _FAILED) -> None:
        """Run a round now, and another `interval_s` seconds after each began, or at once after a longer one.

        A round that failed is tried again after 5 s at the latest, so that a fault does not outlive its cause for long.

        `event` is what the log calls a failure.
        """
        self.expect(name, event=event)
        self._tasks.append(asyncio.get_running_loop().create_task(self._keep(name, work, interval_s)))

    def expect(self, name: str, *, event: str = _FAILED) -> None:
        """Count and report the failures of works with this name, from now on."""
        self.failures[name] += 0
        self._events[name] = event

    def start(self, name: str, work: Round) -> None:
        """Run a work once, beside the caller; never raises. With too many works under way it fails unrun."""
        if len(self._started) >= _STARTED_MAX:
            self._failed(name, BacklogFull())
            return
        task = asyncio.get_running_loop().create_task(self._once(name, work))
        self._started.add(task)
        task.add_done_callback(self._started.discard)

    async def settled(self, wait_s: float | None = None) -> None:
        """Wait for the end of the works that `start` began, for at most `wait_s` seconds."""
        if self._started:
            await asyncio.wait(self._started, timeout=wait_s)

    async def stop(self, wait_s: float = 0.0) -> None:
        """Wait at most `wait_s` seconds for single works, then cancel everything and wait for its end."""
        await self.settled(wait_s)
        self._is_stopped = True
        tasks = [*self._tasks, *self._started]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _once(self, name: str, work: Round) -> None:
        try:
            await work()
        except asyncio.CancelledError as error:
            if self._is_stopped:
                raise
            self._failed(name, error)  # something that the work waited for was cancelled
        except Exception as error:  # noqa: BLE001 -- a loop that ends is an outage that nobody sees
            self._failed(name, error)
        else:
            self._succeeded(name)

    async def _keep(self, name: str, work: Round, interval_s: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            await self._once(name, work)
            pause_s = min(interval_s, _RETRY_S) if name in self.faults else interval_s
            await asyncio.sleep(max(0.0, began_s + pause_s - loop.time()))

    def _failed(self, name: str, error: BaseException) -> None:
        self.failures[name] += 1
        cause = _cause(error)
        if self.faults.get(name) != cause:
            self.faults[name] = cause
            _log.warning(self._events.get(name, _FAILED), extra={"loop": name, "error": cause})

    def _succeeded(self, name: str) -> None:
        if self.faults.pop(name, None) is not None:
            _log.info("a background loop recovered", extra={"loop": name})


def _cause(error: BaseException) -> str:
    if isinstance(error, BacklogFull):
        return f"more than {_STARTED_MAX} are under way"
    if isinstance(error, StoreUnavailable | NotEffectiveYet):
        return str(error)
    # Messages of other errors may quote values. Where one was raised says enough to find it.
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
