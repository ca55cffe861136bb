"""Compares the clock of Redis with that of this process, from the times in the replies to checks.

Buckets follow the clock of Redis; keys expire as soon as either clock says so.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeAlias

OnSkew: TypeAlias = Callable[[float], None]
"""Receives by how many seconds the clock of Redis is ahead of this process; about twice a minute for each key."""

SKEW_MAX_S = 1.0
"""The difference beyond which a warning is logged."""

_WARNING_INTERVAL_S = 60.0

_log = logging.getLogger("authz.redis")


class SkewWarning:
    """Logs a warning, at most one a minute, while the clocks differ by more than `SKEW_MAX_S`."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._next_s = 0.0

    def __call__(self, skew_s: float) -> None:
        """Note a difference in s; positive if the clock of Redis is ahead."""
        if abs(skew_s) > SKEW_MAX_S and self._now_s() >= self._next_s:
            self._next_s = self._now_s() + _WARNING_INTERVAL_S
            _log.warning("the clocks of redis and of this process differ", extra={"skew_s": round(skew_s, 3)})
