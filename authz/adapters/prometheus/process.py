"""The metrics of the process itself: log lines that were not written, and policy reloads.

Label values are closed lists. Metrics of checks are in `checks.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum

from prometheus_client.metrics_core import Metric

from authz.adapters.prometheus.checks import OwnCollector, counts


class ReloadOutcome(StrEnum):
    """The outcome of a policy reload."""

    RELOADED = "reloaded"
    FAILED = "failed"


class LogMetrics(OwnCollector):
    """The metrics of the log; `dropped` returns the number of log lines that were not written, by cause."""

    def __init__(self, dropped: Callable[[], Mapping[str, int]]) -> None:
        self._dropped = dropped

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        rows = (((cause,), count) for cause, count in self._dropped().items())
        yield counts("authz_log_lines_dropped", "Log lines that were not written, by cause.", ("cause",), rows)


class ReloadMetrics(OwnCollector):
    """The metrics of policy reloads."""

    def __init__(self) -> None:
        self._reloads = Counter(dict.fromkeys(ReloadOutcome, 0))

    def reloaded(self, outcome: ReloadOutcome) -> None:
        """Count one policy reload."""
        self._reloads[outcome] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        outcomes = (((outcome.value,), count) for outcome, count in self._reloads.items())
        yield counts("authz_policy_reloads", "Reloads of the policy by outcome.", ("outcome",), outcomes)
