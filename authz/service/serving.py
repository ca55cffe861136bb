"""Whether this sidecar should get checks: what its health checks say, and what its readiness depends on.

The listeners report it; `authz/sidecar.py` connects the parts. A check that arrives is always decided.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from authz.service.check.failure_modes import FailureModes

START_S = 2.0
"""How long a start waits for a store without which checks can be decided (`degrade`)."""

OUTAGE_S = 2.0
"""How long Redis may be unavailable before this sidecar leaves the rotation."""

_REDIS = "redis"

_log = logging.getLogger("authz")


class Serving:
    """The state that health checks report.

    `reached` returns whether each store was ever available, `redis_fault` why Redis fails now, or nothing. `report`
    gets every change of the state.

    Readiness is latched: Kubernetes removes a pod that is not ready from its Service, and an outage of a store that all
    pods share would remove all of them. Health is not: Envoy sends checks to the sidecars that are healthy, and to all
    of them if most are not (its panic threshold). So a sidecar that alone has lost Redis gets no checks, and an outage
    of Redis changes nothing.
    """

    def __init__(
        self,
        reached: Callable[[], Mapping[str, bool]],
        redis_fault: Callable[[], str],
        modes: FailureModes,
        report: Callable[[bool], Awaitable[None]],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reached = reached
        self._redis_fault = redis_fault
        self._modes = modes
        self._report = report
        self._now_s = now_s
        self._started_s = now_s()
        self._ready = dict.fromkeys(reached(), False)
        self._failing_since_s: float | None = None
        self._is_serving = False
        self._is_draining = False

    def conditions(self) -> dict[str, bool]:
        """Return the conditions of readiness by name; those of stores stay true."""
        is_late = self._now_s() - self._started_s >= START_S
        for store, is_reached in self._reached().items():
            self._ready[store] |= is_reached or (is_late and self._modes.degrades(store))
        return {**self._ready, "serving": not self._is_draining}

    async def update(self) -> None:
        """Report the present state if it has changed; call it several times a second."""
        fault = self._lasting_fault()
        is_serving = all(self.conditions().values()) and not fault
        if is_serving == self._is_serving:
            return
        self._is_serving = is_serving
        if is_serving:
            _log.info("serving")
        elif fault and not self._is_draining:
            _log.warning("not serving: redis is unavailable", extra={"error": fault})
        await self._report(is_serving)

    async def drain(self) -> None:
        """Report that this sidecar leaves, for good."""
        self._is_draining = True
        await self.update()

    def _lasting_fault(self) -> str:
        """Return why Redis has failed for too long; empty if it works, or checks are decided without it."""
        fault = self._redis_fault()
        if not fault:
            self._failing_since_s = None
            return ""
        if self._failing_since_s is None:
            self._failing_since_s = self._now_s()
        lasts = self._now_s() - self._failing_since_s > OUTAGE_S
        return fault if lasts and not self._modes.degrades(_REDIS) else ""
