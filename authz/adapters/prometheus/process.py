"""The metrics of the process itself: log lines and spans that were lost, the policy in force, and its reloads.

Label values are closed lists. Metrics of checks are in `checks.py`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from authz.adapters.prometheus.checks import OwnCollector, counts
from authz.core.policy.policy import Policy


class ReloadOutcome(StrEnum):
    """The outcome of a policy reload."""

    RELOADED = "reloaded"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    FAILED = "failed"


class LogMetrics(OwnCollector):
    """The metrics of the log; `dropped` returns the number of log lines that were not written, by cause."""

    def __init__(self, dropped: Callable[[], Mapping[str, int]]) -> None:
        self._dropped = dropped

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        rows = (((cause,), count) for cause, count in self._dropped().items())
        yield counts("authz_log_lines_dropped", "Log lines that were not written, by cause.", ("cause",), rows)


class SpanMetrics(OwnCollector):
    """The metrics of traces; `dropped` returns the number of spans that were not exported, by cause."""

    def __init__(self, dropped: Callable[[], Mapping[str, int]]) -> None:
        self._dropped = dropped

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        rows = (((cause,), count) for cause, count in self._dropped().items())
        text = "Sampled checks, or requests of the portal, whose spans were not exported, by cause."
        yield counts("authz_traces_dropped", text, ("cause",), rows)


class PolicyMetrics(OwnCollector):
    """The metrics of the policy in force and of its reloads. `now_s` returns Unix time in seconds.

    `loaded_s` is when the policy was loaded.
    """

    def __init__(self, policy: Policy, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._reloads = Counter(dict.fromkeys(ReloadOutcome, 0))
        self._unknown_plans = 0
        self.use(policy)

    def use(self, policy: Policy) -> None:
        """Report another policy, which is in force from now on."""
        self._digest, self._version = policy.digest, str(policy.version)
        self._routes = len(policy.routes)
        self.loaded_s = self._now_s()

    def plan_unknown(self) -> None:
        """Count one record of a key whose plan the policy does not have."""
        self._unknown_plans += 1

    def reloaded(self, outcome: ReloadOutcome) -> None:
        """Count one policy reload."""
        self._reloads[outcome] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (`prometheus_client.registry.Collector`)."""
        text = "The policy in force, by its digest and the version of its grammar."
        info = GaugeMetricFamily("authz_policy_info", text, labels=["digest", "version"])
        info.add_metric([self._digest, self._version], 1)
        yield info
        text = "When the policy in force was loaded, in Unix time."
        loaded = GaugeMetricFamily("authz_policy_loaded_timestamp_seconds", text)
        loaded.add_metric([], self.loaded_s)
        yield loaded
        routes = GaugeMetricFamily("authz_policy_routes", "Rows of the policy in force.")
        routes.add_metric([], self._routes)
        yield routes
        text = "Records of keys that were read and have a plan that the policy in force does not have."
        yield counts("authz_unknown_plans", text, (), [((), self._unknown_plans)])
        outcomes = (((outcome.value,), count) for outcome, count in self._reloads.items())
        yield counts("authz_policy_reloads", "Reloads of the policy by outcome.", ("outcome",), outcomes)
