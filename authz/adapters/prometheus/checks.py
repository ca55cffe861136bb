"""The sidecar's metrics, as Prometheus reads them.

Counting is plain integers in dictionaries and lists, because it happens in every check; the client library's types are
made at a scrape. Label values come from closed lists: outcomes, reasons, stores and the policy's own templates.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from authz import __version__
from authz.core.check import Deny
from authz.core.errors import DENIALS, DenyReason
from authz.core.policy.route import Route
from authz.service.ports import Decided

STORES = ("redis", "postgres")
BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5)

BOUNDS_COMMANDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

_UNMATCHED = "unmatched"
# Allowed checks are counted many at once: a processor that counts one of thousands of routes waits for its memory, and
# waits for that of several at the same time where it counts nothing but routes. These it still has at hand, unlike the
# templates that they are shown by.
_UNCOUNTED_MAX = 256
_ERROR_HTTP = 500


class Histogram:
    """Counts of observations, per upper bound."""

    def __init__(self, bounds: Sequence[float] = BOUNDS_S) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, amount: float, times: int = 1) -> None:
        """Count an observation that was made so many times."""
        self._counts[bisect_left(self._bounds, amount)] += times
        self.sum += amount * times

    def buckets(self) -> list[tuple[str, float]]:
        """Return the running totals by upper bound, as Prometheus wants them."""
        bounds = [*(str(bound) for bound in self._bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts)), strict=True))


class Metrics(Collector):
    """Counts what happens to checks, and shows the totals.

    `stores_up` tells for each store whether it is in reach right now, `throttled` how many source addresses are past
    their limit of invalid keys.
    """

    def __init__(self, stores_up: Callable[[], dict[str, bool]], throttled: Callable[[], int] = lambda: 0) -> None:
        self._stores_up = stores_up
        self._throttled = throttled
        self._allowed: Counter[str] = Counter()
        self._passed: Counter[Route] = Counter()
        self._uncounted: list[Route] = []
        self._denied: Counter[tuple[DenyReason, str]] = Counter()
        self._would_deny: Counter[tuple[DenyReason, str]] = Counter()
        self._failures = Counter(dict.fromkeys(STORES, 0))
        self._degraded = Counter(dict.fromkeys(STORES, 0))
        self._checks = Histogram()
        self._answers = {store: Histogram() for store in STORES}
        self._batches = Histogram(BOUNDS_COMMANDS)

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Count decisions that were made together."""
        for _, _, decision in decided:
            if isinstance(decision, Deny):
                template = _UNMATCHED if decision.route is None else decision.route.template
                self._denied[decision.reason, template] += 1
            else:
                self._uncounted.append(decision.route)
                if decision.would_deny is not None:
                    self._would_deny[decision.would_deny, decision.route.template] += 1
        self._checks.observe(latency_s, len(decided))
        if len(self._uncounted) > _UNCOUNTED_MAX:
            self._count_allowed()

    def store_answered(self, store: str, latency_s: float) -> None:
        """Count one answer of a store, with its time."""
        self._answers[store].observe(latency_s)

    def redis_answered(self, seconds: float, commands: int) -> None:
        """Count one write to Redis, once it is answered, with the commands it held (`redis_pipe.OnAnswered`)."""
        self._answers["redis"].observe(seconds)
        self._batches.observe(commands)

    def store_failed(self, store: str) -> None:
        """Count one check that met a store out of reach."""
        self._failures[store] += 1

    def degraded(self, store: str) -> None:
        """Count one check decided from memory."""
        self._degraded[store] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (`prometheus_client.registry.Collector`)."""
        yield self._checks_family()
        yield counts(
            "authz_would_deny", "Checks that a shadow route let pass.", ("reason", "route"), self._would_deny.items()
        )
        latency = HistogramMetricFamily("authz_check_duration_seconds", "Time from a check's start to its decision.")
        latency.add_metric([], self._checks.buckets(), self._checks.sum)
        yield latency
        stores = HistogramMetricFamily("authz_store_duration_seconds", "Time a store took to answer.", labels=["store"])
        for store, answers in self._answers.items():
            stores.add_metric([store], answers.buckets(), answers.sum)
        yield stores
        batches = HistogramMetricFamily("authz_redis_batch_commands", "Commands that left for Redis in one write.")
        batches.add_metric([], self._batches.buckets(), self._batches.sum)
        yield batches
        yield counts(
            "authz_store_failures",
            "Checks that met a store out of reach.",
            ("store",),
            (((store,), count) for store, count in self._failures.items()),
        )
        yield counts(
            "authz_degraded_checks",
            "Checks decided from memory while a store was out of reach.",
            ("store",),
            (((store,), count) for store, count in self._degraded.items()),
        )
        throttled = GaugeMetricFamily("authz_throttled_addresses", "Addresses past their limit of invalid keys.")
        throttled.add_metric([], self._throttled())
        yield throttled
        yield from process_families(self._stores_up())

    def _count_allowed(self) -> None:
        self._passed.update(self._uncounted)
        self._uncounted.clear()

    def _checks_family(self) -> Metric:
        self._count_allowed()
        for route, count in self._passed.items():
            self._allowed[route.template] += count
        self._passed.clear()  # the rows of a policy that was replaced are let go
        allowed = ((("allow", "", route), count) for route, count in self._allowed.items())
        denied = (((_outcome(reason), reason, route), count) for (reason, route), count in self._denied.items())
        rows = chain(allowed, denied)
        return counts("authz_checks", "Checks by outcome, reason and route.", ("outcome", "reason", "route"), rows)


def registry(*collectors: Collector) -> CollectorRegistry:
    """Make a registry of some metrics and what the process itself has to tell."""
    collected = CollectorRegistry()
    for collector in collectors:
        collected.register(collector)
    ProcessCollector(registry=collected)
    PlatformCollector(registry=collected)
    GCCollector(registry=collected)
    return collected


def _outcome(reason: DenyReason) -> str:
    return "error" if DENIALS[reason].http >= _ERROR_HTTP else "deny"


def process_families(stores_up: Mapping[str, bool]) -> Iterator[Metric]:
    """Yield what each of our processes tells: which stores it reaches, and what it is."""
    up = GaugeMetricFamily("authz_store_up", "Whether a store is in reach.", labels=["store"])
    for store, is_up in stores_up.items():
        up.add_metric([store], float(is_up))
    yield up
    build = GaugeMetricFamily("authz_build_info", "The running version.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build


def counts(name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
    """Make a family of counters, one for each row of label values and a count."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in rows:
        family.add_metric(values, count)
    return family
