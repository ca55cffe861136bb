"""What Prometheus reads of the sidecar's operation: present values, exact counts, closed labels."""

import asyncio
import time

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.builders import policy

from authz.adapters.prometheus.checks import OwnCollector, registry
from authz.adapters.prometheus.operation import (
    ChangeMetrics,
    ListenerMetrics,
    LoadMetrics,
    LoopMetrics,
    OutboxMetrics,
)
from authz.adapters.prometheus.process import PolicyMetrics, ReloadOutcome

Samples = dict[str, float]


def samples(metrics: OwnCollector) -> Samples:
    text = generate_latest(registry(metrics).snapshot()).decode()
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("authz_")
    }


def test_the_oldest_change_grows_older_while_nothing_is_measured() -> None:
    now_s = 100.0
    metrics = OutboxMetrics(lambda: now_s)
    assert samples(metrics) == {"authz_outbox_entries": 0, "authz_outbox_oldest_seconds": 0}
    metrics.measured(3, 5.0)
    now_s = 160.0
    assert samples(metrics) == {"authz_outbox_entries": 3, "authz_outbox_oldest_seconds": 65}
    metrics.measured(0, 0.0)
    assert samples(metrics) == {"authz_outbox_entries": 0, "authz_outbox_oldest_seconds": 0}


def test_a_lag_is_observed_even_if_clocks_disagree() -> None:
    metrics = ChangeMetrics()
    for seconds in (-1.0, 0.02, 61.0):
        metrics.settled(seconds)
    read = samples(metrics)
    assert read["authz_change_lag_seconds_bucket{0.005}"] == 1
    assert read["authz_change_lag_seconds_bucket{60}"] == 2
    assert read["authz_change_lag_seconds_count"] == 3
    assert read["authz_change_lag_seconds_sum"] == pytest.approx(61.02)


def test_batches_become_a_histogram_of_checks() -> None:
    batches = [0] * 257
    batches[1], batches[3], batches[256] = 5, 2, 1
    opened = {"connections": 4, "checks": 7, "reports": 2}
    metrics = ListenerMetrics(lambda: opened, lambda: {"full": 1, "silent": 0}, batches, lambda: 9, {"raw_headers": 3})
    read = samples(metrics)
    assert read["authz_check_batch_checks_bucket{1}"] == 5
    assert read["authz_check_batch_checks_bucket{2}"] == 5
    assert read["authz_check_batch_checks_bucket{4}"] == 7
    assert read["authz_check_batch_checks_bucket{128}"] == 7
    assert read["authz_check_batch_checks_count"] == 8
    assert read["authz_check_batch_checks_sum"] == 5 + 6 + 256
    names = ("authz_check_connections", "authz_checks_in_flight", "authz_report_streams")
    assert [read[name] for name in names] == [4, 7, 2]
    assert read["authz_report_streams_broken_total"] == 9
    assert read["authz_check_connections_refused_total{full}"] == 1


def test_loads_and_last_uses_are_read_at_the_scrape() -> None:
    read = samples(LoadMetrics(lambda: {"found": 2, "late": 1}, lambda: 5, lambda: 6))
    assert read == {
        "authz_key_loads_total{found}": 2,
        "authz_key_loads_total{late}": 1,
        "authz_last_uses_waiting": 5,
        "authz_last_uses_dropped_total": 6,
    }


def test_the_policy_in_force_is_named_alone() -> None:
    now_s = 1_000.0
    first, second = policy(), policy(policy().routes[0])
    object.__setattr__(first, "digest", "aaa")
    object.__setattr__(second, "digest", "bbb")
    object.__setattr__(second, "version", 2)
    metrics = PolicyMetrics(first, lambda: now_s)
    now_s = 2_000.0
    metrics.use(second)
    metrics.reloaded(ReloadOutcome.RELOADED)
    read = samples(metrics)
    assert read["authz_policy_info{bbb}{2}"] == 1
    assert "authz_policy_info{aaa}{1}" not in read
    assert (read["authz_policy_loaded_timestamp_seconds"], read["authz_policy_routes"]) == (2_000, 1)
    assert read["authz_policy_reloads_total{reloaded}"] == 1


async def test_a_blocked_event_loop_is_measured() -> None:
    metrics = LoopMetrics()
    metrics.start()
    await asyncio.sleep(0)
    time.sleep(0.6)  # noqa: ASYNC251 -- what is measured
    await asyncio.sleep(0.01)
    read = samples(metrics)
    assert read["authz_event_loop_lag_seconds_count"] == 1
    assert read["authz_event_loop_lag_seconds_sum"] > 0.3
