"""The metrics of the servers that checks depend on, beside those of single commands in `checks.py`."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from authz.adapters.clock_skew import ClockSkew
from authz.adapters.prometheus.checks import OwnCollector


class ServerMetrics(OwnCollector):
    """Shows at a scrape whether Redis evicts keys, as `evicts` returns, and the differences of the stores' clocks."""

    def __init__(self, evicts: Callable[[], bool], skews: Mapping[str, ClockSkew]) -> None:
        self._evicts = evicts
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
