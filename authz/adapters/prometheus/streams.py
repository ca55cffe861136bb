"""The metrics of streams that stay open, as Prometheus reads them: what became of leases, and how many streams live.

Label values are the policy's stream classes and closed lists. Checks are `prometheus.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from authz.adapters.prometheus.checks import Histogram, counts
from authz.core.streams import AcquireOutcome, ReleaseCause

BOUNDS_S = (1, 5, 15, 60, 300, 900, 1800, 3600)


class StreamMetrics(Collector):
    """Counts what becomes of leases (`service.ports.LeaseObserver`), for the classes of the policy.

    `alive` counts the streams that gave a sign of life to this sidecar lately, by class.
    """

    def __init__(self, classes: Mapping[str, object], alive: Callable[[], Mapping[str, int]]) -> None:
        self._classes = tuple(classes)
        self._alive = alive
        self._acquired = Counter({(name, outcome.name.lower()): 0 for name in classes for outcome in AcquireOutcome})
        self._released = Counter({(name, cause.value): 0 for name in classes for cause in ReleaseCause})
        self._retaken = Counter({(name, exceeds): 0 for name in classes for exceeds in ("false", "true")})
        self._ages = {name: Histogram(BOUNDS_S) for name in classes}

    def acquired(self, stream: str, outcome: AcquireOutcome) -> None:
        """Count one answer to a stream that was about to open."""
        self._acquired[stream, outcome.name.lower()] += 1

    def retaken(self, stream: str, *, exceeds: bool) -> None:
        """Count one lease that was taken again."""
        self._retaken[stream, str(exceeds).lower()] += 1

    def released(self, stream: str, cause: ReleaseCause, age_s: float | None) -> None:
        """Count one lease's end."""
        self._released[stream, cause.value] += 1
        if age_s is not None and stream in self._ages:
            self._ages[stream].observe(age_s)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (`prometheus_client.registry.Collector`)."""
        alive = self._alive()
        text = "Open streams whose signs of life arrive at this sidecar."
        gauge = GaugeMetricFamily("authz_streams_open", text, labels=["stream"])
        for name in self._classes:
            gauge.add_metric([name], alive.get(name, 0))
        yield gauge
        text = "Leases asked for, by what came of it."
        yield counts("authz_stream_acquisitions", text, ("stream", "outcome"), self._acquired.items())
        text = "Leases that came to their end, by cause."
        yield counts("authz_stream_releases", text, ("stream", "cause"), self._released.items())
        text = "Leases taken again for streams that outlived them, by whether that went over a cap."
        yield counts("authz_stream_retakes", text, ("stream", "exceeds"), self._retaken.items())
        text = "How long streams had been open when they ended."
        ages = HistogramMetricFamily("authz_stream_age_seconds", text, labels=["stream"])
        for name, observed in self._ages.items():
            ages.add_metric([name], observed.buckets(), observed.sum)
        yield ages
