"""Stores that are slow, locked or absent at the start: what becomes ready, stays so, and what the log says."""

from pathlib import Path
from time import monotonic, sleep

import pytest
from longrun.slow_stores import POOL_MAX, locked_table, slow_network
from support.servers.sidecars import own_sidecar

from authz.demo.servers import free_port

START_S = 2.0


@pytest.mark.timed
def test_a_round_trip_of_20_ms_to_both_stores_is_service_without_flapping() -> None:
    seen = slow_network(delay_ms=20, seconds=3)
    assert seen.ready_s < START_S
    assert {status for status, _ in seen.states} == {200}
    assert seen.warnings == []
    assert seen.refused < seen.checks * 0.02


@pytest.mark.timed
def test_a_round_trip_of_100_ms_is_a_line_that_names_the_setting() -> None:
    seen = slow_network(delay_ms=100, seconds=3)
    errors = {(line["event"], line.get("error")) for line in seen.warnings}
    assert ("not serving: redis is unavailable", "no answer within 50 ms (AUTHZ_REDIS_DEADLINE_S)") in errors


@pytest.mark.timed
def test_a_locked_table_under_a_flood_takes_no_more_connections_than_the_pool_may() -> None:
    locked = locked_table(seconds=3)
    assert 1 <= locked.connections <= POOL_MAX
    assert locked.back_s < 2


def test_a_start_during_an_outage_of_both_stores_becomes_ready_only_with_degrade(folder: Path) -> None:
    postgres_url = f"postgresql://authz@127.0.0.1:{free_port()}/authz"
    redis_url = f"redis://127.0.0.1:{free_port()}/0"
    degrade = {"AUTHZ_REDIS_FAILURE": "degrade", "AUTHZ_POSTGRES_FAILURE": "degrade"}
    with (
        own_sidecar(folder, postgres_url, redis_url) as strict,
        own_sidecar(folder, postgres_url, redis_url, **degrade) as degraded,
    ):
        started_s = monotonic()
        degraded.until_ready(within_s=START_S + 8)
        _, document = degraded.readiness()
        assert (document["redis"], document["postgres"], document["serving"]) == (True, True, True)
        assert document["stores"]["redis"] == "not connected"
        assert document["stores"]["postgres"] != "available"
        sleep(max(0.0, started_s + START_S + 1 - monotonic()))
        status, document = strict.readiness()
        assert (status, document["redis"], document["postgres"]) == (503, False, False)
