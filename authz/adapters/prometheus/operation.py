"""The metrics of the sidecar's operation: pending changes, the check listener, loads of keys, and the event loop.

Most are read when Prometheus scrapes. Label values are closed lists. Metrics of checks are in `checks.py`.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from authz.adapters.prometheus.checks import Histogram, OwnCollector, counts, gauge

_LAG_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300)
_LOOP_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_LOOP_INTERVAL_S = 0.25
_BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128)


class ChangeMetrics(OwnCollector):
    """The metrics of changes of keys and accounts between Postgres and Redis."""

    def __init__(self) -> None:
        self._lags = Histogram(_LAG_BOUNDS_S)

    def settled(self, seconds: float) -> None:
        """Observe one change that became effective, with the seconds since the change."""
        self._lags.observe(max(0.0, seconds))

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        text = "Time from a change of a key or account to its effect in Redis, where this process made it effective."
        lags = HistogramMetricFamily("authz_change_lag_seconds", text)
        lags.add_metric([], self._lags.buckets(), self._lags.sum)
        yield lags


class OutboxMetrics(OwnCollector):
    """The metrics of pending changes. The age of the oldest grows also while Postgres cannot be asked."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._entries = 0
        self._oldest_since_s: float | None = None

    def measured(self, entries: int, oldest_s: float) -> None:
        """Record the number of pending changes and the age of the oldest in seconds."""
        self._entries = entries
        self._oldest_since_s = self._now_s() - oldest_s if entries else None

    def present(self) -> tuple[int, float]:
        """Return the number of pending changes, and the age of the oldest in seconds."""
        since_s = self._oldest_since_s
        return self._entries, 0.0 if since_s is None else max(0.0, self._now_s() - since_s)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (`prometheus_client.registry.Collector`)."""
        _, oldest_s = self.present()
        yield gauge(
            "authz_outbox_entries", "Changes that are in Postgres and not yet effective in Redis.", self._entries
        )
        yield gauge("authz_outbox_oldest_seconds", "Age of the oldest change that is not yet effective.", oldest_s)


class ListenerMetrics(OwnCollector):
    """The metrics of the check listener.

    `opened` counts what is open and `closed` the connections that were refused or closed, by cause; `batches` counts
    batches by their number of checks; `reports_broken` returns the number of aborted calls of Envoy's access log.
    """

    def __init__(
        self,
        opened: Callable[[], Mapping[str, int]],
        closed: Callable[[], Mapping[str, int]],
        batches: Sequence[int],
        reports_broken: Callable[[], int],
    ) -> None:
        self._opened = opened
        self._closed = closed
        self._batches = batches
        self._reports_broken = reports_broken

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (`prometheus_client.registry.Collector`)."""
        opened = self._opened()
        yield gauge("authz_check_connections", "Connections to the check listener.", opened["connections"])
        yield gauge("authz_checks_in_flight", "Checks without a response on the check listener.", opened["checks"])
        yield gauge("authz_report_streams", "Open calls of Envoy's access log.", opened["reports"])
        broken = CounterMetricFamily("authz_report_streams_broken", "Calls of Envoy's access log that were aborted.")
        broken.add_metric([], self._reports_broken())
        yield broken
        rows = (((cause,), count) for cause, count in self._closed().items())
        text = "Connections to the check listener that were refused or closed to protect the process, by cause."
        yield counts("authz_check_connections_refused", text, ("cause",), rows)
        sizes = list(accumulate(self._batches))
        buckets: list[tuple[str, float]] = [(str(bound), float(sizes[bound])) for bound in _BATCH_BOUNDS]
        text = "Checks that arrived in one read of a connection."
        family = HistogramMetricFamily("authz_check_batch_checks", text)
        total = float(sum(size * count for size, count in enumerate(self._batches)))
        family.add_metric([], [*buckets, ("+Inf", float(sizes[-1]))], total)
        yield family


class LoadMetrics(OwnCollector):
    """The metrics of loads of keys from Postgres, by outcome, and of last uses that are written there."""

    def __init__(
        self, loads: Callable[[], Mapping[str, int]], uses: Callable[[], int], dropped: Callable[[], int]
    ) -> None:
        self._loads = loads
        self._uses = uses
        self._dropped = dropped

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (`prometheus_client.registry.Collector`)."""
        rows = (((str(outcome),), count) for outcome, count in self._loads().items())
        text = "Loads of missing keys from Postgres by outcome; late ones count the checks that did not wait longer."
        yield counts("authz_key_loads", text, ("outcome",), rows)
        yield gauge("authz_last_uses_waiting", "Last uses of keys that are not yet written.", self._uses())
        dropped = CounterMetricFamily("authz_last_uses_dropped", "Last uses of keys that were dropped unwritten.")
        dropped.add_metric([], self._dropped())
        yield dropped


class LoopMetrics(OwnCollector):
    """Measures how late the event loop runs what is due, four times a second after `start`."""

    def __init__(self) -> None:
        self._lags = Histogram(_LOOP_BOUNDS_S)

    def start(self) -> None:
        """Begin to measure; needs a running event loop."""
        self._schedule(asyncio.get_running_loop())

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        lags = HistogramMetricFamily("authz_event_loop_lag_seconds", "Delay of the event loop.")
        lags.add_metric([], self._lags.buckets(), self._lags.sum)
        yield lags

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(_LOOP_INTERVAL_S, self._measure, loop, loop.time() + _LOOP_INTERVAL_S)

    def _measure(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        self._lags.observe(max(0.0, loop.time() - due_s))
        self._schedule(loop)
