"""The metrics of what an operator must see coming or must add up: time in degraded mode, and the end of certificates.

Checks that were decided in degraded mode are counted in `checks.py`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Self

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from authz.adapters.prometheus.checks import STORES, OwnCollector, counts

_INTERVAL_S = 0.25


class DegradedMetrics(OwnCollector):
    """Adds up the time in which a store was unavailable and its checks were decided from local memory.

    `stores_up` returns for each store whether it is available, `degrades` whether its failure mode is degrade. They are
    read four times a second after `start`.
    """

    def __init__(
        self,
        stores_up: Callable[[], Mapping[str, bool]],
        degrades: Callable[[str], bool],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stores_up = stores_up
        self._stores = tuple(store for store in STORES if degrades(store))
        self._now_s = now_s
        self._seen_s = 0.0
        self._seconds: Counter[str] = Counter(dict.fromkeys(STORES, 0))

    def start(self) -> None:
        """Begin to measure, if a store degrades at all; needs a running event loop."""
        self._seen_s = self._now_s()
        if self._stores:
            self._schedule(asyncio.get_running_loop())

    def measure(self) -> None:
        """Add the time since the last call to the stores that are unavailable now."""
        now_s, are_up = self._now_s(), self._stores_up()
        for store in self._stores:
            if not are_up[store]:
                self._seconds[store] += now_s - self._seen_s  # type: ignore[assignment]  # seconds
        self._seen_s = now_s

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        text = "Seconds in which a store was unavailable and checks were decided from local memory."
        rows = (((store,), seconds) for store, seconds in self._seconds.items())
        yield counts("authz_degraded_seconds", text, ("store",), rows)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(_INTERVAL_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.measure()
        self._schedule(loop)


class CertificateMetrics(OwnCollector):
    """Shows when the certificate of each listener ends, as its function returns; nothing of one without TLS."""

    def __init__(self, expires_at_s: Mapping[str, Callable[[], float | None]]) -> None:
        self._expires_at_s = dict(expires_at_s)

    def frozen(self) -> Self:
        """Return a copy (`OwnCollector`); the functions look at files, and are called on the event loop."""
        present = {listener: ends_s() for listener, ends_s in self._expires_at_s.items()}
        clone = super().frozen()
        clone._expires_at_s = {listener: lambda at_s=at_s: at_s for listener, at_s in present.items()}  # type: ignore[misc]  # noqa: SLF001 -- of its own class
        return clone

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family (`prometheus_client.registry.Collector`)."""
        text = "When the certificate of a listener, or one of its chain, expires, in Unix time."
        family = GaugeMetricFamily("authz_certificate_expiry_timestamp_seconds", text, labels=["listener"])
        for listener, ends_s in self._expires_at_s.items():
            at_s = ends_s()
            if at_s is not None:
                family.add_metric([listener], at_s)
        yield family
