"""The sidecar's metrics for Prometheus.

Counters are plain integers in dictionaries and lists, because every check updates them. The client library's types are
created at a scrape. Label values are from closed lists: outcomes, reasons, stores and the policy's route templates.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import accumulate, chain
from typing import Any, Self

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from authz import __version__
from authz.core.check import Deny
from authz.core.errors import DENIALS, DenyReason
from authz.core.policy.route import Route
from authz.core.traces.context import Traced, trace_context
from authz.service.ports import Decided

STORES = ("redis", "postgres")
BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5)

BOUNDS_COMMANDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

_UNMATCHED = "unmatched"
# Allowed checks are counted in groups: with thousands of routes each counter is a cache miss of the processor, and a
# loop over many counters overlaps these misses. The route objects are in the cache then, unlike their templates.
_UNCOUNTED_MAX = 256
_ERROR_HTTP = 500


class Histogram:
    """A histogram: counts of observations by upper bound."""

    def __init__(self, bounds: Sequence[float] = BOUNDS_S) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: dict[int, tuple[float, float, Traced]] = {}
        self.sum = 0.0

    def observe(self, amount: float, times: int = 1) -> None:
        """Count an observation `times` times."""
        self._counts[bisect_left(self._bounds, amount)] += times
        self.sum += amount * times

    def exemplify(self, amount: float, call: Traced) -> None:
        """Keep an observation that was counted as the example of its bucket; its trace is read at a scrape."""
        self._exemplars[bisect_left(self._bounds, amount)] = amount, time.time(), call

    def frozen(self) -> Self:
        """Return a copy that does not change."""
        clone = copy(self)
        clone._exemplars = self._exemplars.copy()  # noqa: SLF001 -- of its own class
        clone._counts = self._counts.copy()  # noqa: SLF001 -- of its own class
        return clone

    def buckets(self) -> list[tuple[str, float]]:
        """Return the cumulative counts by upper bound, in Prometheus' form."""
        bounds = [*(str(bound) for bound in self._bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts)), strict=True))

    def buckets_with_exemplars(self) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
        """Return the same with the latest exemplar of each bucket, for OpenMetrics."""
        found = {at: trace_context(call.traceparent) for at, (*_, call) in self._exemplars.items()}
        return [
            (*each, Exemplar({"trace_id": trace.trace_id}, *self._exemplars[at][:2]))
            if (trace := found.get(at))
            else each
            for at, each in enumerate(self.buckets())
        ]


class OwnCollector(Collector):
    """A collector whose counters change on the event loop, and which is read on another thread."""

    def frozen(self) -> Self:
        """Return a copy of the counters and the present values of all functions; called on the event loop."""
        clone = copy(self)
        for name, value in vars(self).items():
            setattr(clone, name, _frozen(value))
        return clone


class Metrics(OwnCollector):
    """The metrics of checks.

    `stores_up` returns for each store whether it is available now; `throttled` the number of source addresses over
    their limit of invalid keys.
    """

    def __init__(self, stores_up: Callable[[], dict[str, bool]], throttled: Callable[[], int] = lambda: 0) -> None:
        self._stores_up = stores_up
        self._throttled = throttled
        self._shared: frozenset[str] = frozenset()
        self._allowed: Counter[tuple[str, str]] = Counter()
        self._passed: Counter[Route] = Counter()
        self._uncounted: list[Route] = []
        self._denied: Counter[tuple[DenyReason, str, str]] = Counter()
        self._would_deny: Counter[tuple[DenyReason, str, str]] = Counter()
        self._failures = Counter(dict.fromkeys(STORES, 0))
        self._degraded = Counter(dict.fromkeys(STORES, 0))
        self._checks = Histogram()
        self._answers = {store: Histogram() for store in STORES}
        self._batches = Histogram(BOUNDS_COMMANDS)
        self._late = 0

    def use(self, routes: Iterable[Route]) -> None:
        """Report the routes of another policy: where several have one template, their samples name the method too."""
        rows = Counter(route.template for route in routes)
        self._shared = frozenset(template for template, count in rows.items() if count > 1)

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Count decisions that were made together."""
        for _, _, decision in decided:
            if isinstance(decision, Deny):
                route = decision.route
                row = ("", _UNMATCHED) if route is None else (route.method, route.template)
                self._denied[(decision.reason, *row)] += 1
            else:
                self._uncounted.append(decision.route)
                if decision.would_deny is not None:
                    route = decision.route
                    self._would_deny[decision.would_deny, route.method, route.template] += 1
        self._checks.observe(latency_s, len(decided))
        if len(self._uncounted) > _UNCOUNTED_MAX:
            self._count_allowed()

    def traced(self, latency_s: float, call: Traced) -> None:
        """Keep a check that was counted as the example of its latency."""
        self._checks.exemplify(latency_s, call)

    def store_answered(self, store: str, latency_s: float) -> None:
        """Observe the duration of one response of a store."""
        self._answers[store].observe(latency_s)

    def redis_answered(self, seconds: float, commands: int, late: int) -> None:
        """Observe one write to Redis after its response or its deadline (`pipe.OnAnswered`)."""
        self._late += late
        self._answers["redis"].observe(seconds)
        self._batches.observe(commands)

    def store_failed(self, store: str) -> None:
        """Count one check that failed because a store was unavailable."""
        self._failures[store] += 1

    def degraded(self, store: str) -> None:
        """Count one check decided from local memory."""
        self._degraded[store] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (`prometheus_client.registry.Collector`)."""
        yield self._checks_family()
        text = "Checks that a shadow route allowed and its rules would deny."
        yield self._by_row("authz_would_deny", text, ("reason",), self._would_deny.items())
        latency = HistogramMetricFamily(
            "authz_check_duration_seconds", "Duration of a check from its start to its decision."
        )
        latency.add_metric([], self._checks.buckets_with_exemplars(), self._checks.sum)
        yield latency
        stores = HistogramMetricFamily(
            "authz_store_duration_seconds", "Duration of a store's response.", labels=["store"]
        )
        for store, answers in self._answers.items():
            stores.add_metric([store], answers.buckets(), answers.sum)
        yield stores
        batches = HistogramMetricFamily("authz_redis_batch_commands", "Commands per write to Redis.")
        batches.add_metric([], self._batches.buckets(), self._batches.sum)
        yield batches
        late = "Commands to Redis without a reply within AUTHZ_REDIS_DEADLINE_S."
        yield counts("authz_redis_late_commands", late, (), [((), self._late)])
        yield counts(
            "authz_store_failures",
            "Checks that failed because a store was unavailable.",
            ("store",),
            (((store,), count) for store, count in self._failures.items()),
        )
        yield counts(
            "authz_degraded_checks",
            "Checks decided from local memory while a store was unavailable.",
            ("store",),
            (((store,), count) for store, count in self._degraded.items()),
        )
        throttled = GaugeMetricFamily("authz_throttled_addresses", "Source addresses over their limit of invalid keys.")
        throttled.add_metric([], self._throttled())
        yield throttled
        yield from process_families(self._stores_up())

    def frozen(self) -> Self:
        """Return a copy (`OwnCollector`)."""
        self._count_by_template()
        return super().frozen()

    def _count_allowed(self) -> None:
        self._passed.update(self._uncounted)
        self._uncounted.clear()

    def _count_by_template(self) -> None:
        self._count_allowed()
        for route, count in self._passed.items():
            self._allowed[route.method, route.template] += count
        self._passed.clear()  # releases the routes of a replaced policy

    def _checks_family(self) -> Metric:
        self._count_by_template()
        allowed = ((("allow", "", *row), count) for row, count in self._allowed.items())
        denied = (((_outcome(reason), reason, *row), count) for (reason, *row), count in self._denied.items())
        text = "Checks by outcome, reason and route."
        return self._by_row("authz_checks", text, ("outcome", "reason"), chain(allowed, denied))

    def _by_row(
        self, name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], float]]
    ) -> Metric:
        """Create a family of counters by rows of the policy; a method is named where the template is not enough."""
        family = CounterMetricFamily(name, text, labels=(*labels, "method", "route"))
        for (*values, method, template), count in rows:
            named = dict(zip(labels, values, strict=True))
            if template in self._shared:
                named["method"] = method
            family.add_sample(f"{name}_total", named | {"route": template}, count)
        return family


class Registry(CollectorRegistry):
    """A registry of our collectors and the standard metrics of the process."""

    def __init__(self, *collectors: OwnCollector) -> None:
        super().__init__()
        self._own = collectors
        standard = (ProcessCollector(registry=None), PlatformCollector(registry=None), GCCollector(CollectorRegistry()))
        self._standard: tuple[Collector, ...] = standard
        _register(self, [*collectors, *standard])

    def snapshot(self) -> CollectorRegistry:
        """Return a registry that can be read on another thread; called on the event loop."""
        frozen = CollectorRegistry()
        _register(frozen, [*(collector.frozen() for collector in self._own), *self._standard])
        return frozen


def registry(*collectors: OwnCollector) -> Registry:
    """Create a registry of collectors and the standard metrics of the process."""
    return Registry(*collectors)


def _register(target: CollectorRegistry, collectors: Iterable[Collector]) -> None:
    for collector in collectors:
        target.register(collector)


def _frozen(value: Any) -> Any:  # noqa: ANN401 -- any attribute of a collector
    if isinstance(value, Histogram):
        return value.frozen()
    if isinstance(value, dict):
        if isinstance(next(iter(value.values()), None), Histogram):
            return {key: _frozen(each) for key, each in value.items()}
        return Counter(value) if isinstance(value, Counter) else dict(value)
    if isinstance(value, list):
        return value.copy()
    if callable(value):
        present = value()
        return lambda: present
    return value


def _outcome(reason: DenyReason) -> str:
    return "error" if DENIALS[reason].http >= _ERROR_HTTP else "deny"


def process_families(stores_up: Mapping[str, bool]) -> Iterator[Metric]:
    """Yield the metrics of every authz process: the availability of stores, and the version."""
    up = GaugeMetricFamily("authz_store_up", "Whether a store is available.", labels=["store"])
    for store, is_up in stores_up.items():
        up.add_metric([store], float(is_up))
    yield up
    build = GaugeMetricFamily("authz_build_info", "The running version.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build


def gauge(name: str, text: str, value: float) -> Metric:
    """Create a gauge without labels."""
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family


def counts(name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """Create a family of counters, one for each row of label values and count."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in rows:
        family.add_metric(values, count)
    return family
