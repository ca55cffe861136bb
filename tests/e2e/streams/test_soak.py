"""A short run of what `make soak-streams` does for half an hour."""

import random

import pytest
from longrun.stream_soak import Pace, Soak


@pytest.mark.timed
@pytest.mark.timeout(90)
def test_caps_hold_and_no_slot_leaks_through_random_ends_and_crashes() -> None:
    pace = Pace(seconds=10, opens_per_s=20, held_s_max=2, ttl_s=4, heartbeat_s=0.5)
    outcome = Soak(pace, random.Random(1)).run()  # noqa: S311 -- the same run every time
    assert (outcome.left, outcome.exceeding_retakes) == (0, 0)
    assert (outcome.peak_of_key, outcome.peak_of_account <= 10) == (3, True)
    assert outcome.opened > 100
    assert set(outcome.refused) <= {429, 503}
    assert len(outcome.ended) >= 4
