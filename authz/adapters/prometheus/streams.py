"""The metrics of long streams for Prometheus: lease outcomes and open streams.

Label values are the policy's stream classes and closed lists. Metrics of checks are in `checks.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from authz.adapters.prometheus.checks import Histogram, OwnCollector, counts
from authz.core.streams import AcquireOutcome, ReleaseCause

BOUNDS_S = (1, 5, 15, 60, 300, 900, 1800, 3600)


class StreamMetrics(OwnCollector):
    """The metrics of leases (`service.ports.LeaseObserver`), for the stream classes of the policy.

    `alive` returns the number of open streams that Envoy reports to this sidecar, by class.
    """

    def __init__(self, classes: Mapping[str, object], alive: Callable[[], Mapping[str, int]]) -> None:
        self._classes = tuple(classes)
        self._alive = alive
        self._acquired = Counter({(name, outcome.name.lower()): 0 for name in classes for outcome in AcquireOutcome})
        self._released = Counter({(name, cause.value): 0 for name in classes for cause in ReleaseCause})
        self._retaken = Counter({(name, exceeds): 0 for name in classes for exceeds in ("false", "true")})
        self._ages = {name: Histogram(BOUNDS_S) for name in classes}

    def use_classes(self, classes: Mapping[str, object]) -> None:
        """Report the classes of another policy; the counters of earlier ones stay."""
        self._classes = tuple(classes)
        for name in classes:
            self._ages.setdefault(name, Histogram(BOUNDS_S))

    def acquired(self, stream: str, outcome: AcquireOutcome) -> None:
        """Count one attempt to acquire a lease."""
        self._acquired[stream, outcome.name.lower()] += 1

    def retaken(self, stream: str, *, exceeds: bool) -> None:
        """Count one lease that was acquired again."""
        self._retaken[stream, str(exceeds).lower()] += 1

    def released(self, stream: str, cause: ReleaseCause, age_s: float | None) -> None:
        """Count one released lease."""
        self._released[stream, cause.value] += 1
        if age_s is not None and stream in self._ages:
            self._ages[stream].observe(age_s)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (`prometheus_client.registry.Collector`)."""
        alive = self._alive()
        text = "Open streams that Envoy reports to this sidecar."
        gauge = GaugeMetricFamily("authz_streams_open", text, labels=["stream"])
        for name in self._classes:
            gauge.add_metric([name], alive.get(name, 0))
        yield gauge
        text = "Attempts to acquire a lease by outcome."
        yield counts("authz_stream_acquisitions", text, ("stream", "outcome"), self._acquired.items())
        text = "Released leases by cause."
        yield counts("authz_stream_releases", text, ("stream", "cause"), self._released.items())
        text = "Leases acquired again for streams that outlived them, by whether that exceeds a cap."
        yield counts("authz_stream_retakes", text, ("stream", "exceeds"), self._retaken.items())
        text = "Age of streams at their end."
        ages = HistogramMetricFamily("authz_stream_age_seconds", text, labels=["stream"])
        for name, observed in self._ages.items():
            ages.add_metric([name], observed.buckets(), observed.sum)
        yield ages
