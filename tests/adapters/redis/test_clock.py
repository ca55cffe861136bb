"""Two clocks: a key has expired as soon as either says so, and a difference is reported."""

import logging
import os
import time

import pytest
from support.contracts.key_lookups import put, record, start_take

from authz.adapters.redis.clock import SkewWarning
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.store import RedisStore
from authz.core.check import Take, TakeOutcome


async def test_a_key_that_has_expired_by_the_sidecars_clock_is_refused(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, now_s = os.urandom(32), time.time()
    await put(store.keys, digest, record(expires_at_ms=int(now_s * 1000) + 60_000))
    outcomes = []
    for ahead_s in (0, 0, 59, 61, 61):
        monkeypatch.setattr("authz.adapters.redis.checks.time.time", lambda at_s=now_s + ahead_s: at_s)
        take = await start_take(store.keys, digest)
        assert isinstance(take, Take)
        outcomes.append(take.outcome)
    assert outcomes == [TakeOutcome.GRANTED] * 3 + [TakeOutcome.EXPIRED] * 2


async def test_the_difference_of_the_clocks_is_measured_with_a_keys_first_use(link: RedisLink) -> None:
    skews: list[float] = []
    keys, digest = RedisKeys(link, negative_ttl_s=5, on_skew=skews.append), os.urandom(32)
    await put(keys, digest, record())
    for _ in range(5):
        await start_take(keys, digest)
    assert 1 <= len(skews) <= 2  # half a minute may have ended meanwhile
    assert abs(skews[0]) < 1


def test_a_difference_is_warned_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    skewed = SkewWarning(lambda: clock[0])
    with caplog.at_level(logging.WARNING, "authz.redis"):
        for at_s, skew_s in ((0, 0.9), (1, -1.1), (2, 5.0), (60, 5.0), (62, 5.0), (63, 5.0)):
            clock[0] = at_s
            skewed(skew_s)
    assert [found.skew_s for found in caplog.records] == [-1.1, 5.0]  # type: ignore[attr-defined]  # an extra
