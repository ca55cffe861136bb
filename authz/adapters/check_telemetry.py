"""The metrics, the decision log and the traces as one observer of checks.

What they record is in `prometheus/checks.py`, `decision_log.py` and `tracing/`.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from authz.adapters.decision_log import DecisionLog
from authz.adapters.prometheus.checks import Metrics
from authz.service.ports import Decided

OnDecided: TypeAlias = Callable[[Sequence[Decided], float], None]


class CheckTelemetry:
    """The observer of checks (`service.ports.CheckObserver`); `trace` exports spans, None without a collector."""

    def __init__(self, metrics: Metrics, log: DecisionLog, trace: OnDecided | None = None) -> None:
        self.store_answered = metrics.store_answered
        self.store_failed = metrics.store_failed
        self.degraded = metrics.degraded
        self._count = metrics.decided
        self._log = log.decided
        self._trace = trace

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Count decisions and log some of them."""
        self._count(decided, latency_s)
        self._log(decided, latency_s)
        if self._trace is not None:
            self._trace(decided, latency_s)
