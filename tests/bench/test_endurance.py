"""Cross-talk and growth, in short: the long runs are `make crosstalk` and `make soak`."""

import random

import pytest
import uvloop
from crosstalk import cross
from plan import Plan
from soak import SAMPLES, soak


@pytest.mark.timed
def test_every_answer_reaches_its_own_call() -> None:
    tally = uvloop.run(cross(5_000, random.Random(5)))  # noqa: S311 -- a test's delays
    assert (tally.foreign, tally.unanswered) == (0, 0)
    assert min(tally.right, tally.reset, tally.expired) > 0


@pytest.mark.timed
def test_a_sidecar_with_warm_caches_does_not_grow() -> None:
    soaked = uvloop.run(soak(Plan(keys=100, requests=200), checks=20_000, keys=200))
    assert len(soaked.rss_mib) == SAMPLES
    assert soaked.calls == 20_000
    assert soaked.growth_mib < 1
