"""A rolling restart of sidecars fails no request, and a sidecar that is stopped drains."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from signal import SIGTERM

import httpx
import pytest
from support.servers.stack import ROOMY

from authz.adapters.policy_file.loader import load_policy
from authz.demo.servers import shipped
from authz.demo.stack import Stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # Envoy asks for health every second: two of these, and the sidecar may close.
    stack = Stack(sidecars=2, env={"AUTHZ_DRAIN_DELAY_S": "2.2", "AUTHZ_REDIS_DEADLINE_S": "0.15"})
    stack.start()
    yield stack
    stack.stop()


def load(url: str, secret: str, stopping: threading.Event, statuses: list[int]) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=5) as client:
            while not stopping.is_set():
                answer = await client.get("/v1/servers", headers={"x-api-key": secret})
                statuses.append(answer.status_code)

    asyncio.run(run())


def test_a_rolling_restart_costs_no_request(stack: Stack) -> None:
    secret = stack.create_key("rolling", "servers:read", limit=ROOMY).secret
    stopping, statuses = threading.Event(), list[int]()
    threads = [threading.Thread(target=load, args=(stack.url, secret, stopping, statuses)) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(2):
            before = len(statuses)
            assert stack.sidecars[number].stop() == 0
            stack.start_sidecar(number)
            until = len(statuses) + 500
            while len(statuses) < until:
                threading.Event().wait(0.01)
            assert len(statuses) > before
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    assert len(statuses) > 1000


def test_a_sidecar_that_shuts_down_reports_it_first(stack: Stack) -> None:
    stack.sidecars[1].signal(SIGTERM)
    while True:
        answer = httpx.get(f"http://127.0.0.1:{stack.admin_ports[1]}/readyz", trust_env=False)
        if answer.status_code == 503:
            break
    stores = {"redis": "available", "postgres": "available"}
    loaded = load_policy(shipped("policies/truetick.yaml"))
    policy = {"digest": loaded.digest, "version": 1, "routes": len(loaded.routes)}
    expected = {"redis": True, "postgres": True, "serving": False, "stores": stores, "policy": policy}
    found = answer.json()
    assert datetime.fromisoformat(found["policy"].pop("loaded")) <= datetime.now(UTC)
    assert found == expected
    assert stack.sidecars[1].stop() == 0
    lines = [json.loads(line) for line in stack.sidecars[1].log.read_text().splitlines()]
    assert lines[-1]["event"] == "drained"
    started = max(number for number, line in enumerate(lines) if line["event"] == "listening")
    assert [line for line in lines[started:] if line["level"] not in {"debug", "info"}] == []
