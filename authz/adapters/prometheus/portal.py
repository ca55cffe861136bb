"""The portal's metrics for Prometheus: use cases, their outcomes and their durations.

Label values are closed lists and the templates of the portal's routes. Metrics of checks are in `checks.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from authz.adapters.prometheus.checks import Histogram, OwnCollector, counts, process_families
from authz.core.outcomes import GrantEvent, LoginOutcome, SignupOutcome
from authz.core.throttles import Attempt

STORES = ("redis", "postgres", "passwords", "mail")
METHODS = ("GET", "HEAD", "POST", "DELETE")
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

_OTHER = "other"
_ANSWER_LABELS = ("method", "route", "status")


class PortalMetrics(OwnCollector):
    """The metrics of the portal (`service.portal.ports.PortalObserver`).

    `stores_up` returns for each store whether it is available now.
    """

    def __init__(self, stores_up: Callable[[], dict[str, bool]]) -> None:
        self._stores_up = stores_up
        self._logins = Counter(dict.fromkeys(LoginOutcome, 0))
        self._signups = Counter(dict.fromkeys(SignupOutcome, 0))
        self._grants = Counter(dict.fromkeys(GrantEvent, 0))
        self._throttled = Counter({(attempt, by): 0 for attempt in Attempt for by in ("address", "subject")})
        self._failures = Counter(dict.fromkeys(STORES, 0))
        self._answers: dict[tuple[str, str, str], Histogram] = {}

    def logged_in(self, outcome: LoginOutcome) -> None:
        """Count one login attempt by outcome."""
        self._logins[outcome] += 1

    def signed_up(self, outcome: SignupOutcome) -> None:
        """Count one signup by outcome."""
        self._signups[outcome] += 1

    def grant_went_on(self, event: GrantEvent) -> None:
        """Count one step of a device grant."""
        self._grants[event] += 1

    def throttled(self, attempt: Attempt, by: str) -> None:
        """Count one throttled attempt, by the kind of counter."""
        self._throttled[attempt, by] += 1

    def store_failed(self, store: str) -> None:
        """Count one request that failed because a store was unavailable."""
        self._failures[store if store in STORES else _OTHER] += 1

    def answered(self, method: str, template: str, status: int, latency_s: float) -> None:
        """Observe the duration of one request."""
        labels = (method if method in METHODS else _OTHER, template, str(status))
        if labels not in self._answers:
            self._answers[labels] = Histogram(BOUNDS_S)
        self._answers[labels].observe(latency_s)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family (`prometheus_client.registry.Collector`)."""
        for name, text, label, counter in (
            ("authz_portal_logins", "Login attempts by outcome.", "outcome", self._logins),
            ("authz_portal_signups", "Signups by outcome.", "outcome", self._signups),
            ("authz_portal_device_grants", "Steps of device grants by event.", "event", self._grants),
            (
                "authz_portal_store_failures",
                "Requests that failed because a store was unavailable.",
                "store",
                self._failures,
            ),
        ):
            yield counts(name, text, (label,), (((str(value),), count) for value, count in counter.items()))
        text = "Throttled attempts by attempt and kind of counter."
        yield counts("authz_portal_throttled", text, ("attempt", "by"), self._throttled.items())
        text = "Duration of a request."
        answers = HistogramMetricFamily("authz_portal_request_duration_seconds", text, labels=_ANSWER_LABELS)
        for labels, observed in self._answers.items():
            answers.add_metric(labels, observed.buckets(), observed.sum)
        yield answers
        yield from process_families(self._stores_up())
