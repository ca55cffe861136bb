"""The metrics of the servers that checks depend on, beside those of single commands in `checks.py`."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from authz.adapters.clock_skew import ClockSkew
from authz.adapters.prometheus.checks import Histogram, OwnCollector, counts, gauge
from authz.adapters.redis.connection.link_counts import LinkCounts

_CONNECT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class ServerMetrics(OwnCollector):
    """Shows at a scrape whether Redis evicts keys, as `evicts` returns, and the differences of the stores' clocks.

    `counted` returns what is counted of the connections to Redis.
    """

    def __init__(
        self,
        evicts: Callable[[], bool],
        skews: Mapping[str, ClockSkew],
        counted: Callable[[], LinkCounts] = LinkCounts,
    ) -> None:
        self._evicts = evicts
        self._counted = counted
        self._skews = skews

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        evicts = GaugeMetricFamily(
            "authz_redis_evicts",
            "Whether Redis evicts keys at its memory limit, so that buckets and leases may be lost.",
        )
        evicts.add_metric([], float(self._evicts()))
        yield evicts
        skew = GaugeMetricFamily(
            "authz_clock_skew_seconds",
            "By how much the clock of a store is ahead of that of this process.",
            labels=["store"],
        )
        for store, measured in self._skews.items():
            skew.add_metric([store], measured.skew_s)
        yield skew
        counted = self._counted()
        yield counts("authz_redis_reconnects", "Connections to Redis after a loss.", (), [((), counted.reconnects)])
        text = "Reconnections to Redis with another epoch: a restart or another primary."
        yield counts("authz_redis_epoch_changes", text, (), [((), counted.epoch_changes)])
        text = "Commands to Redis without a reply, those past their deadline included."
        yield gauge("authz_redis_commands_in_flight", text, counted.in_flight)
        text = "The most commands that may wait for Redis; beyond it they are refused."
        yield gauge("authz_redis_commands_in_flight_max", text, counted.in_flight_max)


class ConnectMetrics(OwnCollector):
    """The times of connecting to Postgres."""

    def __init__(self) -> None:
        self._connects = Histogram(_CONNECT_BOUNDS_S)

    def connected(self, seconds: float) -> None:
        """Observe one successful attempt."""
        self._connects.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        text = "Duration of connecting to Postgres, successful attempts only."
        family = HistogramMetricFamily("authz_postgres_connect_seconds", text)
        family.add_metric([], self._connects.buckets(), self._connects.sum)
        yield family
