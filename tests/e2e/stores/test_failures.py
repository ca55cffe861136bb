"""Stores that crash, hang, or restart empty or with an old snapshot: never a wrong allow, soon a 503, then service."""

import os
import time
from collections.abc import Callable, Iterator
from signal import SIGCONT, SIGSTOP

import grpc
import httpx
import pytest
import redis
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from support.clients.raw_http import Answer, send
from support.servers.postgres import processes
from support.servers.stack import ROOMY

from authz.core.accounts import AuditEvent
from authz.demo.stack import Stack

UNAVAILABLE = {"code": 14, "message": "unavailable"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack()
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def secret(stack: Stack) -> str:
    return stack.create_key("steady", "servers:read", limit=ROOMY).secret


@pytest.fixture(autouse=True)
def _service(stack: Stack, secret: str) -> Iterator[None]:
    back_in_service(stack, secret)
    yield
    stack.redis.signal(SIGCONT)
    if not stack.redis.pid:
        stack.redis.start()


def request(stack: Stack, secret: str, target: str = "/v1/servers") -> tuple[Answer, float]:
    started_s = time.monotonic()
    answer = send(stack.url, "GET", target, ("x-api-key", secret))
    return answer, time.monotonic() - started_s


def back_in_service(stack: Stack, secret: str) -> float:
    """Repeat until the request is allowed; returns the seconds that took."""
    started_s = time.monotonic()
    while request(stack, secret)[0].status != 200:
        time.sleep(0.01)
    return time.monotonic() - started_s


def assert_unavailable(stack: Stack, secret: str) -> None:
    for _ in range(20):
        answer, took_s = request(stack, secret)
        assert answer.status == 503
        assert answer.header("retry-after") == "1"
        assert {name: answer.document[name] for name in UNAVAILABLE} == UNAVAILABLE
        assert took_s < 0.2


def test_redis_killed_is_a_503_and_restarted_empty_is_service(stack: Stack, secret: str) -> None:
    gone = stack.create_key("gone", "servers:read", limit=ROOMY)
    assert request(stack, gone.secret)[0].status == 200
    stack.change_key(gone.key.id, AuditEvent.KEY_REVOKED)
    stack.redis.kill()
    assert_unavailable(stack, secret)
    # What needs no store is decided all the same.
    assert send(stack.url, "GET", "/v1/servers").status == 401
    assert send(stack.url, "POST", "/v1/public/login").status == 200
    stack.redis.start()
    assert back_in_service(stack, secret) < 2
    assert request(stack, gone.secret)[0].status == 401


def test_redis_hanging_is_a_503_in_time_and_going_on_is_service(stack: Stack, secret: str) -> None:
    stack.redis.signal(SIGSTOP)
    assert_unavailable(stack, secret)
    stack.redis.signal(SIGCONT)
    assert back_in_service(stack, secret) < 2


def test_a_revoked_key_stays_revoked_when_redis_loads_an_older_snapshot(stack: Stack, secret: str) -> None:
    made = stack.create_key("restored", "servers:read", limit=ROOMY)
    assert request(stack, made.secret)[0].status == 200
    with redis.Redis.from_url(stack.redis.url) as client:
        client.save()
    stack.change_key(made.key.id, AuditEvent.KEY_REVOKED)
    assert request(stack, made.secret)[0].status == 401
    stack.redis.kill()
    stack.redis.start()  # from the snapshot, in which the key works
    with redis.Redis.from_url(stack.redis.url) as client:
        assert client.dbsize() > 0
    back_in_service(stack, secret)
    assert request(stack, made.secret)[0].status == 401
    (stack.folder / "dump.rdb").unlink()


def test_a_revoked_key_stays_revoked_when_redis_is_flushed(stack: Stack) -> None:
    made = stack.create_key("flushed", "servers:read", limit=ROOMY)
    assert request(stack, made.secret)[0].status == 200
    stack.change_key(made.key.id, AuditEvent.KEY_REVOKED)
    with redis.Redis.from_url(stack.redis.url) as client:
        client.flushall()
    assert request(stack, made.secret)[0].status == 401


@pytest.mark.parametrize("trouble", ["flush", "snapshot", "restart"])
def test_a_suspended_account_stays_suspended_whatever_redis_forgets(stack: Stack, secret: str, trouble: str) -> None:
    account_id = stack.create_account("stopped")
    made = [stack.create_key("stopped", "servers:read", limit=ROOMY, account_id=account_id).secret for _ in range(3)]
    assert [request(stack, one)[0].status for one in made] == [200] * 3
    with redis.Redis.from_url(stack.redis.url) as client:
        client.save()  # with the keys as they work
        stack.change_account(account_id, AuditEvent.ACCOUNT_SUSPENDED)
        assert [request(stack, one)[0].status for one in made] == [401] * 3
        if trouble == "flush":
            client.flushall()
    if trouble != "flush":
        stack.redis.kill()
        if trouble == "restart":
            (stack.folder / "dump.rdb").unlink()
        stack.redis.start()
        back_in_service(stack, secret)
    for _ in range(3):
        assert [request(stack, one)[0].status for one in made] == [401] * 3
    stack.change_account(account_id, AuditEvent.ACCOUNT_REINSTATED)
    assert [request(stack, one)[0].status for one in made] == [200] * 3
    (stack.folder / "dump.rdb").unlink(missing_ok=True)


def test_without_postgres_keys_in_redis_work_and_others_are_a_503_not_a_401(stack: Stack, secret: str) -> None:
    fresh = stack.create_key("fresh", "servers:read", limit=ROOMY)
    with redis.Redis.from_url(stack.redis.url) as client:
        client.flushall()
    assert request(stack, secret)[0].status == 200
    stopped = processes(stack.postgres.pid)
    for pid in stopped:
        os.kill(pid, SIGSTOP)
    try:
        assert request(stack, secret)[0].status == 200
        answer, took_s = request(stack, fresh.secret)
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        assert took_s < 0.2
    finally:
        for pid in stopped:
            os.kill(pid, SIGCONT)
    assert back_in_service(stack, fresh.secret) < 2


def test_failures_are_counted_and_readiness_stays(stack: Stack, secret: str) -> None:
    stack.redis.signal(SIGSTOP)
    request(stack, secret)
    stack.redis.signal(SIGCONT)
    metrics = httpx.get(f"{stack.admin_url}/metrics", trust_env=False).text
    counted = next(
        line for line in metrics.splitlines() if line.startswith('authz_store_failures_total{store="redis"}')
    )
    assert float(counted.split()[1]) > 0
    assert httpx.get(f"{stack.admin_url}/readyz", trust_env=False).status_code == 200


def test_a_sidecar_without_redis_leaves_the_rotation_and_says_why_and_returns(stack: Stack, secret: str) -> None:
    assert health(stack) == health_pb2.HealthCheckResponse.SERVING
    stack.redis.signal(SIGSTOP)
    until(lambda: health(stack) == health_pb2.HealthCheckResponse.NOT_SERVING)
    ready = httpx.get(f"{stack.admin_url}/readyz", trust_env=False)
    assert ready.status_code == 200
    assert ready.json()["redis"]
    assert ready.json()["stores"]["redis"] != "available"
    assert ready.json()["stores"]["postgres"] == "available"
    assert 'authz_store_up{store="redis"} 0.0' in httpx.get(f"{stack.admin_url}/metrics", trust_env=False).text
    time.sleep(1.5)  # longer than the interval of Envoy's health checks
    assert_unavailable(stack, secret)  # by this sidecar still, because there is no other
    stack.redis.signal(SIGCONT)
    until(lambda: health(stack) == health_pb2.HealthCheckResponse.SERVING)
    assert httpx.get(f"{stack.admin_url}/readyz", trust_env=False).json()["stores"]["redis"] == "available"


def health(stack: Stack) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{stack.check_ports[0]}") as channel:
        status: int = HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2).status
    return status


def until(holds: Callable[[], bool], within_s: float = 6) -> None:
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
