"""The metrics and the decision log as one observer of checks.

What they record is in `prometheus/checks.py` and `decision_log.py`.
"""

from collections.abc import Sequence

from authz.adapters.decision_log import DecisionLog
from authz.adapters.prometheus.checks import Metrics
from authz.service.ports import Decided


class CheckTelemetry:
    """The observer of checks (`service.ports.CheckObserver`)."""

    def __init__(self, metrics: Metrics, log: DecisionLog) -> None:
        self.store_answered = metrics.store_answered
        self.store_failed = metrics.store_failed
        self.degraded = metrics.degraded
        self._count = metrics.decided
        self._log = log.decided

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Count decisions and log some of them."""
        self._count(decided, latency_s)
        self._log(decided, latency_s)
