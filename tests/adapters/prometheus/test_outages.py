"""Time in degraded mode, the end of certificates, connections to the stores, and methods of one template."""

from pathlib import Path

import pytest
from support.certificates import Authority

from authz.adapters.prometheus.checks import Metrics, OwnCollector, registry
from authz.adapters.prometheus.outages import CertificateMetrics, DegradedMetrics
from authz.adapters.prometheus.servers import ConnectMetrics, ServerMetrics
from authz.adapters.redis.connection.link_counts import LinkCounts
from authz.core.check import Allow, Deny
from authz.core.errors import DenyReason
from authz.core.policy.route import Access, Route
from authz.edge.check.certificate import earliest_end_s
from authz.edge.check.tls import CheckTls, TlsFiles


class FakeClock:
    now_s = 0.0


def value(collector: OwnCollector, name: str, **labels: str) -> float | None:
    return registry(collector).snapshot().get_sample_value(name, labels)


def test_seconds_count_only_while_a_store_that_degrades_is_unavailable() -> None:
    clock, is_up = FakeClock(), {"redis": True, "postgres": False}
    metrics = DegradedMetrics(lambda: is_up, lambda store: store == "redis", lambda: clock.now_s)
    for clock.now_s, is_up["redis"] in ((1.0, True), (2.5, False), (3.0, False), (9.0, True)):
        metrics.measure()
    assert value(metrics, "authz_degraded_seconds_total", store="redis") == 2.0
    assert value(metrics, "authz_degraded_seconds_total", store="postgres") == 0


def test_a_certificate_that_is_replaced_shows_its_new_end(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "one")
    file, key = authority.issue("DNS:envoy")
    metrics = CertificateMetrics({"check": CheckTls(TlsFiles(file, key)).expires_at_s})
    name = "authz_certificate_expiry_timestamp_seconds"
    assert value(metrics, name, listener="check") == earliest_end_s(file.read_bytes())
    expired, other_key = authority.issue("DNS:envoy", is_expired=True)
    file.write_bytes(expired.read_bytes())
    key.write_bytes(other_key.read_bytes())
    assert value(metrics, name, listener="check") == earliest_end_s(expired.read_bytes())
    assert value(CertificateMetrics({}), name, listener="check") is None


def test_connections_are_counted() -> None:
    total = sum([LinkCounts(2, 1, 5, 100), LinkCounts(1, 1, 7, 100)], LinkCounts(4, 4, 9, 100).ended())
    metrics = ServerMetrics(lambda: True, {}, lambda: total)
    assert value(metrics, "authz_redis_reconnects_total") == 7
    assert value(metrics, "authz_redis_epoch_changes_total") == 6
    assert value(metrics, "authz_redis_commands_in_flight") == 12
    assert value(metrics, "authz_redis_commands_in_flight_max") == 200
    connects = ConnectMetrics()
    connects.connected(0.004)
    assert value(connects, "authz_postgres_connect_seconds_bucket", le="0.005") == 1
    assert value(connects, "authz_postgres_connect_seconds_bucket", le="0.0025") == 0


@pytest.mark.parametrize("is_denied", [True, False])
def test_a_method_is_named_where_a_template_has_several(*, is_denied: bool) -> None:
    routes = [Route(method, "/v1/x", Access.PUBLIC) for method in ("GET", "POST")]
    alone = Route("GET", "/v1/y", Access.PUBLIC)
    metrics = Metrics(lambda: {"redis": True, "postgres": True})
    metrics.use([*routes, alone])
    for route in (*routes, alone, routes[0]):
        decision = Deny(DenyReason.KEY_MISSING, route) if is_denied else Allow(route)
        metrics.decided([(1, None, decision)], 0.001)  # type: ignore[list-item]  # attributes are not counted
    labels = {"outcome": "deny", "reason": "key_missing"} if is_denied else {"outcome": "allow", "reason": ""}
    name = "authz_checks_total"
    assert value(metrics, name, route="/v1/x", method="GET", **labels) == 2
    assert value(metrics, name, route="/v1/x", method="POST", **labels) == 1
    assert value(metrics, name, route="/v1/y", **labels) == 1
