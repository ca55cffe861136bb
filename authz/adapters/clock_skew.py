"""The difference between the clock of a store and that of this process, as the stores' adapters measure it.

Buckets follow the clock of Redis; keys expire as soon as either clock says so.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeAlias

OnSkew: TypeAlias = Callable[[float], None]
"""Receives by how many seconds the clock of a server is ahead of that of this process."""

SKEW_MAX_S = 1.0
"""The difference beyond which a warning is logged, and the change of it beyond which another one is."""

_KEPT_S = 60.0

_log = logging.getLogger("authz.clocks")


class ClockSkew:
    """The difference for one store: the largest that was measured on any of its servers within a minute.

    Each change is logged once.
    """

    def __init__(self, store: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now_s = now_s
        self._measured_at_s = 0.0
        self._reported_s = 0.0
        self.skew_s = 0.0

    def __call__(self, skew_s: float) -> None:
        """Note a difference in s; positive if the clock of the store is ahead."""
        now_s = self._now_s()
        # The servers of a cluster have several clocks: a good one does not hide a bad one.
        if abs(skew_s) < abs(self.skew_s) and now_s - self._measured_at_s < _KEPT_S:
            return
        self.skew_s, self._measured_at_s = skew_s, now_s
        shown = {"store": self._store, "skew_s": round(skew_s, 3)}
        if abs(skew_s) > SKEW_MAX_S and abs(skew_s - self._reported_s) > SKEW_MAX_S:
            self._reported_s = skew_s
            _log.warning("the clocks of a store and of this process differ", extra=shown)
        elif self._reported_s and abs(skew_s) <= SKEW_MAX_S / 2:
            self._reported_s = 0.0
            _log.info("the clocks of a store and of this process agree again", extra=shown)


def certain_skew(server_s: float, asked_s: float, answered_s: float) -> float:
    """Return what the way of a question and its answer does not explain of a difference, all in s of Unix time."""
    return max(server_s - answered_s, 0.0) or min(server_s - asked_s, 0.0)
