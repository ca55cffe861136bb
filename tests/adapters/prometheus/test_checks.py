"""What Prometheus reads: exact counts, closed labels, a bounded number of series."""

from dataclasses import replace

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.builders import ROUTES, policy, request, take

from authz.adapters.prometheus.checks import STORES, Metrics, registry
from authz.core.check import Allow, Decision, Deny, Principal
from authz.core.errors import DENIALS, DenyReason

ROUTE = ROUTES[1]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: {"redis": True, "postgres": False})


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(registry(metrics)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("authz_")
    }


def test_each_decision_counts_once_by_outcome_reason_and_template(metrics: Metrics) -> None:
    principal = Principal("acct_1", "key_1", frozenset())
    decisions: tuple[Decision, ...] = (
        Allow(ROUTE, principal, take().bucket),
        Deny(DenyReason.SCOPE_MISSING, ROUTE),
        Deny(DenyReason.PATH_NOT_CANONICAL),
        Deny(DenyReason.STORE_UNAVAILABLE, ROUTE),
    )
    metrics.decided([(number, request(), decision) for number, decision in enumerate(decisions)], 0.0004)
    read = samples(metrics)
    for outcome, reason, route in (
        ("allow", "", ROUTE.template),
        ("deny", "scope_missing", ROUTE.template),
        ("deny", "path_not_canonical", "unmatched"),
        ("error", "store_unavailable", ROUTE.template),
    ):
        assert read["authz_checks_total", (("outcome", outcome), ("reason", reason), ("route", route))] == 1
    assert read["authz_check_duration_seconds_count", ()] == 4
    assert read["authz_check_duration_seconds_bucket", (("le", "0.00025"),)] == 0
    assert read["authz_check_duration_seconds_bucket", (("le", "0.0005"),)] == 4
    assert read["authz_check_duration_seconds_sum", ()] == pytest.approx(0.0016)


def test_counts_go_on_from_scrape_to_scrape_and_from_policy_to_policy(metrics: Metrics) -> None:
    labels = (("outcome", "allow"), ("reason", ""), ("route", ROUTE.template))
    for number, route in enumerate((ROUTE, ROUTE, replace(ROUTE, cost=2))):  # the last one's policy is another
        metrics.decided([(number, request(), Allow(route))] * 300, 0.1)
        assert samples(metrics)["authz_checks_total", labels] == 300 * (number + 1)


def test_a_shadow_route_counts_what_it_would_have_refused(metrics: Metrics) -> None:
    metrics.decided([(1, request(), Allow(ROUTE, would_deny=DenyReason.KEY_MISSING))], 0.1)
    read = samples(metrics)
    assert read["authz_would_deny_total", (("reason", "key_missing"), ("route", ROUTE.template))] == 1


def test_stores_are_counted_apart(metrics: Metrics) -> None:
    metrics.redis_answered(10, 64, 3)
    metrics.store_failed("postgres")
    metrics.degraded("redis")
    read = samples(metrics)
    assert read["authz_store_duration_seconds_bucket", (("le", "0.5"), ("store", "redis"))] == 0
    assert read["authz_store_duration_seconds_bucket", (("le", "+Inf"), ("store", "redis"))] == 1
    assert read["authz_store_duration_seconds_count", (("store", "postgres"),)] == 0
    assert read["authz_redis_batch_commands_bucket", (("le", "32"),)] == 0
    assert read["authz_redis_batch_commands_bucket", (("le", "64"),)] == 1
    assert read["authz_redis_batch_commands_sum", ()] == 64
    assert read["authz_redis_late_commands_total", ()] == 3
    assert read["authz_store_failures_total", (("store", "postgres"),)] == 1
    assert read["authz_degraded_checks_total", (("store", "redis"),)] == 1
    assert read["authz_store_up", (("store", "redis"),)] == 1
    assert read["authz_store_up", (("store", "postgres"),)] == 0


def test_the_number_of_series_is_bounded_by_the_policy(metrics: Metrics) -> None:
    table = policy()
    for route in (None, *table.routes):
        for reason in DenyReason:
            metrics.decided([(1, request(), Deny(reason, route))], 0.1)
        if route is not None:
            metrics.decided([(1, request(), Allow(route, would_deny=DenyReason.KEY_MISSING))], 0.1)
    templates = {route.template for route in table.routes}
    checks = [key for key in samples(metrics) if key[0] == "authz_checks_total"]
    # Every reason for every template and for what matched none, and one allow a template.
    assert len(checks) == (len(templates) + 1) * len(DENIALS) + len(templates)
    assert len(samples(metrics)) - len(checks) < 100 + len(templates) * len(STORES)
