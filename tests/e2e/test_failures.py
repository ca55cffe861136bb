"""Stores that crash, hang, come back empty or with an old memory: never a wrong allow, soon a 503, then service."""

import os
import time
from collections.abc import Iterator
from signal import SIGCONT, SIGSTOP

import httpx
import pytest
import redis
from databases import processes
from houses import ROOMY
from wire import Answer, send

from authz.core.ownership import AuditEvent
from authz.demo.house import House

UNAVAILABLE = {"code": 14, "message": "unavailable"}


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    house = House()
    house.start()
    yield house
    house.stop()


@pytest.fixture(scope="module")
def secret(house: House) -> str:
    return house.create_key("steady", "servers:read", limit=ROOMY).secret


@pytest.fixture(autouse=True)
def _service(house: House, secret: str) -> Iterator[None]:
    back_in_service(house, secret)
    yield
    house.redis.signal(SIGCONT)
    if not house.redis.pid:
        house.redis.start()


def ask(house: House, secret: str, target: str = "/v1/servers") -> tuple[Answer, float]:
    started_s = time.monotonic()
    answer = send(house.url, "GET", target, ("x-api-key", secret))
    return answer, time.monotonic() - started_s


def back_in_service(house: House, secret: str) -> float:
    """Ask until the answer is an allow; returns the seconds that took."""
    started_s = time.monotonic()
    while ask(house, secret)[0].status != 200:
        time.sleep(0.01)
    return time.monotonic() - started_s


def assert_unavailable(house: House, secret: str) -> None:
    for _ in range(20):
        answer, took_s = ask(house, secret)
        assert answer.status == 503
        assert answer.header("retry-after") == "1"
        assert {name: answer.document[name] for name in UNAVAILABLE} == UNAVAILABLE
        assert took_s < 0.2


def test_redis_killed_is_a_503_and_restarted_empty_is_service(house: House, secret: str) -> None:
    gone = house.create_key("gone", "servers:read", limit=ROOMY)
    assert ask(house, gone.secret)[0].status == 200
    house.change_key(gone.key.id, AuditEvent.KEY_REVOKED)
    house.redis.kill()
    assert_unavailable(house, secret)
    # What needs no store is decided all the same.
    assert send(house.url, "GET", "/v1/servers").status == 401
    assert send(house.url, "POST", "/v1/public/login").status == 200
    house.redis.start()
    assert back_in_service(house, secret) < 2
    assert ask(house, gone.secret)[0].status == 401


def test_redis_hanging_is_a_503_in_time_and_going_on_is_service(house: House, secret: str) -> None:
    house.redis.signal(SIGSTOP)
    assert_unavailable(house, secret)
    house.redis.signal(SIGCONT)
    assert back_in_service(house, secret) < 2


def test_a_revoked_key_stays_revoked_when_redis_loads_an_older_snapshot(house: House, secret: str) -> None:
    made = house.create_key("restored", "servers:read", limit=ROOMY)
    assert ask(house, made.secret)[0].status == 200
    with redis.Redis.from_url(house.redis.url) as client:
        client.save()
    house.change_key(made.key.id, AuditEvent.KEY_REVOKED)
    assert ask(house, made.secret)[0].status == 401
    house.redis.kill()
    house.redis.start()  # from the snapshot, in which the key works
    with redis.Redis.from_url(house.redis.url) as client:
        assert client.dbsize() > 0
    back_in_service(house, secret)
    assert ask(house, made.secret)[0].status == 401
    (house.folder / "dump.rdb").unlink()


def test_a_revoked_key_stays_revoked_when_redis_is_flushed(house: House) -> None:
    made = house.create_key("flushed", "servers:read", limit=ROOMY)
    assert ask(house, made.secret)[0].status == 200
    house.change_key(made.key.id, AuditEvent.KEY_REVOKED)
    with redis.Redis.from_url(house.redis.url) as client:
        client.flushall()
    assert ask(house, made.secret)[0].status == 401


def test_without_postgres_keys_in_redis_work_and_others_are_a_503_not_a_401(house: House, secret: str) -> None:
    fresh = house.create_key("fresh", "servers:read", limit=ROOMY)
    with redis.Redis.from_url(house.redis.url) as client:
        client.flushall()
    assert ask(house, secret)[0].status == 200
    stopped = processes(house.postgres.pid)
    for pid in stopped:
        os.kill(pid, SIGSTOP)
    try:
        assert ask(house, secret)[0].status == 200
        answer, took_s = ask(house, fresh.secret)
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        assert took_s < 0.2
    finally:
        for pid in stopped:
            os.kill(pid, SIGCONT)
    assert back_in_service(house, fresh.secret) < 2


def test_failures_are_counted_and_readiness_stays(house: House, secret: str) -> None:
    house.redis.signal(SIGSTOP)
    ask(house, secret)
    house.redis.signal(SIGCONT)
    metrics = httpx.get(f"{house.admin_url}/metrics", trust_env=False).text
    counted = next(
        line for line in metrics.splitlines() if line.startswith('authz_store_failures_total{store="redis"}')
    )
    assert float(counted.split()[1]) > 0
    assert httpx.get(f"{house.admin_url}/readyz", trust_env=False).status_code == 200
