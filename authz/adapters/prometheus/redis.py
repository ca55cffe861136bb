"""The metrics of the Redis server that checks depend on, beside those of single commands in `checks.py`."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from authz.adapters.prometheus.checks import OwnCollector


class RedisMetrics(OwnCollector):
    """Shows whether the server evicts keys, as `evicts` returns at a scrape."""

    def __init__(self, evicts: Callable[[], bool]) -> None:
        self._evicts = evicts

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        evicts = GaugeMetricFamily(
            "authz_redis_evicts",
            "Whether Redis evicts keys at its memory limit, so that buckets and leases may be lost.",
        )
        evicts.add_metric([], float(self._evicts()))
        yield evicts
