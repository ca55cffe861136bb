"""Redis loses every key while Postgres is some milliseconds away: service continues, few checks are refused."""

import pytest
from longrun.cold_cache import refill


@pytest.mark.timed
@pytest.mark.timeout(90)
@pytest.mark.parametrize("delay_ms", [5, 20])
def test_a_flush_over_a_slow_network_costs_less_than_one_check_in_a_hundred(delay_ms: float) -> None:
    found = refill(keys=2_000, per_s=400, seconds=3, delay_ms=delay_ms)
    assert found.ready_s < 2
    assert found.calls == 1_200
    assert found.share < 0.01
