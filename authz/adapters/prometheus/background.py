"""Metrics of what runs beside the checks: background loops, and the connections to Postgres.

Both are read when Prometheus scrapes; nothing is counted here.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from authz.adapters.prometheus.checks import OwnCollector, counts


class BackgroundMetrics(OwnCollector):
    """Shows failed rounds and present faults by loop, and connections by state."""

    def __init__(
        self,
        failures: Mapping[str, int],
        faults: Collection[str],
        connections: Callable[[], Mapping[str, int]],
    ) -> None:
        self._failures = failures
        self._faults = faults
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (`prometheus_client.registry.Collector`)."""
        rows = (((loop,), count) for loop, count in self._failures.items())
        yield counts("authz_background_failures", "Failed rounds of background loops.", ("loop",), rows)
        failing = GaugeMetricFamily(
            "authz_background_failing", "Whether the last round of a background loop failed.", labels=["loop"]
        )
        for loop in self._failures:
            failing.add_metric([loop], float(loop in self._faults))
        yield failing
        connections = GaugeMetricFamily(
            "authz_postgres_connections",
            "Connections to Postgres that are idle, used or connecting, and transactions waiting for one.",
            labels=["state"],
        )
        for state, count in self._connections().items():
            connections.add_metric([state], count)
        yield connections
