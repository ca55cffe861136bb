"""Two clocks: a key has expired as soon as either says so, and a difference is reported."""

import logging
import os
import time

import pytest
from support.contracts.key_lookups import put, record, start_take

from authz.adapters.clock_skew import ClockSkew, certain_skew
from authz.adapters.postgres.pool import Postgres
from authz.adapters.prometheus.servers import ServerMetrics
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


def test_each_change_of_a_difference_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    skewed = ClockSkew("redis", lambda: clock[0])
    shown = []
    with caplog.at_level(logging.INFO, "authz.clocks"):
        for at_s, skew_s in ((0, 0.9), (1, -1.1), (2, -1.2), (70, -1.3), (71, 5.0), (140, 5.4), (210, 0.9), (280, 0.1)):
            clock[0] = at_s
            skewed(skew_s)
            shown.append(skewed.skew_s)
    logged = [(found.levelname, found.store, found.skew_s) for found in caplog.records]  # type: ignore[attr-defined]
    assert logged == [("WARNING", "redis", -1.1), ("WARNING", "redis", 5.0), ("INFO", "redis", 0.1)]
    assert shown == [0.9, -1.1, -1.2, -1.3, 5.0, 5.4, 0.9, 0.1]


def test_one_server_of_a_cluster_with_a_wrong_clock_is_not_hidden_by_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = [0.0]
    skewed = ClockSkew("redis", lambda: clock[0])
    for _ in range(50):
        clock[0] += 10
        for skew_s in (0.01, -7.0, 0.02):
            skewed(skew_s)
    assert skewed.skew_s == -7.0
    assert len(caplog.records) == 1


def test_the_way_of_an_answer_is_no_difference() -> None:
    assert certain_skew(100.5, 100.0, 101.0) == 0
    assert certain_skew(103.0, 100.0, 101.0) == 2
    assert certain_skew(97.0, 100.0, 101.0) == -3


@pytest.mark.parametrize("ahead_s", [0, 30, -30])
async def test_the_clock_of_postgres_is_compared_with_each_connection(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    skews: list[float] = []
    now_s = time.time
    monkeypatch.setattr("authz.adapters.postgres.session.time.time", lambda: now_s() - ahead_s)
    postgres = Postgres(postgres_url, deadline_s=5, pool_max=1, on_skew=skews.append)
    await postgres.start()
    async with postgres.transaction() as session:
        assert await session.fetchval("SELECT 1") == 1
    await postgres.close()
    assert len(skews) == 1
    assert skews[0] == pytest.approx(ahead_s, abs=1)


def test_the_differences_are_a_metric() -> None:
    skews = {"redis": ClockSkew("redis"), "postgres": ClockSkew("postgres")}
    skews["postgres"](-2.5)
    families = {family.name: family for family in ServerMetrics(lambda: True, skews).collect()}
    samples = families["authz_clock_skew_seconds"].samples
    assert {sample.labels["store"]: sample.value for sample in samples} == {"redis": 0, "postgres": -2.5}
