"""The metrics of operation, of a real sidecar: a change that cannot take effect is visible, and so is what follows."""

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.clients.raw_http import send_settled
from support.servers.stack import ROOMY

from authz.core.accounts import AuditEvent
from authz.core.errors import NotEffectiveYet
from authz.core.keys import KeyFormat
from authz.demo.stack import Stack

ROOT = Path(__file__).parents[3]
WAIT_S = 20
UNKNOWN = 'authz_key_loads_total{outcome="unknown"}'


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack(env={"AUTHZ_LAST_USE_INTERVAL_S": "0.5"})
    stack.start()
    yield stack
    stack.stop()


def metric(stack: Stack, name: str) -> float:
    with urllib.request.urlopen(f"{stack.admin_url}/metrics", timeout=5) as answer:  # noqa: S310 -- our own address
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def make_older(stack: Stack, table: str, seconds: int) -> None:
    async def change() -> None:
        connection = await asyncpg.connect(stack.postgres.url)
        await connection.execute(f"UPDATE {table} SET created_at = created_at - interval '{seconds} s'")  # noqa: S608 -- ours
        await connection.close()

    asyncio.run(change())


def doctor(stack: Stack) -> dict[str, Any]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")} | {
        "AUTHZ_REDIS_URL": stack.settings.redis_url.get_secret_value(),
        "AUTHZ_POSTGRES_URL": stack.postgres.url,
        "AUTHZ_POLICY_FILE": str(stack.settings.policy_file),
    }
    command = [sys.executable, "-m", "authz", "doctor", "--json", "--admin", stack.admin_url]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["ok"] else 1)
    findings: dict[str, Any] = {}
    for finding in found["findings"]:
        if findings.get(finding["name"], {"state": "ok"})["state"] == "ok":  # the first that is wrong
            findings[finding["name"]] = finding
    return findings


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_a_change_that_is_stuck_grows_old_in_the_metrics_and_its_lag_is_observed(stack: Stack) -> None:
    key = stack.create_key("stuck", "servers:read", limit=ROOMY)
    stack.redis.signal(signal.SIGSTOP)
    try:
        with suppress(NotEffectiveYet):
            stack.change_key(key.key.id, AuditEvent.KEY_REVOKED)
        until(lambda: metric(stack, "authz_outbox_entries") >= 1)
        until(lambda: metric(stack, "authz_outbox_oldest_seconds") > 2)
    finally:
        stack.redis.signal(signal.SIGCONT)
    until(lambda: metric(stack, "authz_outbox_entries") == 0)
    assert metric(stack, "authz_outbox_oldest_seconds") == 0
    assert metric(stack, "authz_change_lag_seconds_count") >= 1
    assert metric(stack, "authz_change_lag_seconds_sum") > 2


def test_a_change_that_is_stuck_for_a_minute_shows_in_metrics_readiness_and_doctor(stack: Stack) -> None:
    key = stack.create_key("very stuck", "servers:read", limit=ROOMY)
    stack.redis.signal(signal.SIGSTOP)
    try:
        with suppress(NotEffectiveYet):
            stack.change_key(key.key.id, AuditEvent.KEY_REVOKED)
        make_older(stack, "key_outbox", 60)
        until(lambda: metric(stack, "authz_outbox_oldest_seconds") > 60)
        ready = httpx.get(f"{stack.admin_url}/readyz", trust_env=False)
        assert ready.json()["outbox"]["entries"] >= 1
        assert ready.json()["outbox"]["oldest_s"] > 60
        assert ready.status_code == 200  # otherwise every sidecar would leave at the same time
        told = doctor(stack)
        assert "changes do not become effective" in told["outbox"]["detail"]
        assert "changes do not become effective" in told[f"sidecar {stack.admin_url} outbox"]["detail"]
        assert told["redis"]["state"] == "wrong"
    finally:
        stack.redis.signal(signal.SIGCONT)
    until(lambda: metric(stack, "authz_outbox_entries") == 0)
    assert "outbox" not in httpx.get(f"{stack.admin_url}/readyz", trust_env=False).json()
    until(lambda: {finding["state"] for finding in doctor(stack).values()} == {"ok"})


def test_loads_connections_and_batches_are_counted(stack: Stack) -> None:
    known = stack.create_key("counted", "servers:read", limit=ROOMY).secret
    loads, batches = metric(stack, UNKNOWN), metric(stack, "authz_check_batch_checks_sum")
    assert send_settled(stack.url, "GET", "/v1/servers/s1", ("x-api-key", known)).status == 200
    unknown = KeyFormat("ttk_").mint(secrets.token_bytes(32))
    assert send_settled(stack.url, "GET", "/v1/servers/s1", ("x-api-key", unknown)).status == 401
    assert metric(stack, UNKNOWN) == loads + 1
    assert metric(stack, "authz_check_batch_checks_sum") >= batches + 2
    assert metric(stack, "authz_check_connections") >= 1
    assert metric(stack, "authz_event_loop_lag_seconds_count") > 0
    assert metric(stack, "authz_policy_info") == 1


def test_no_more_series_than_documented(stack: Stack) -> None:
    page = " ".join((ROOT / "docs" / "reference" / "metrics.md").read_text().split())
    of_a_class, rest = (int(re.findall(rf"(\d+) for {words}", page)[0]) for words in ("each stream class", "the rest"))
    with urllib.request.urlopen(f"{stack.admin_url}/metrics", timeout=5) as answer:  # noqa: S310 -- our own address
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples if sample.name.startswith("authz_")]
    classes = {sample.labels["stream"] for sample in samples if "stream" in sample.labels}
    assert sum("stream" in sample.labels for sample in samples) <= of_a_class * len(classes)
    others = [sample for sample in samples if not {"stream", "route"} & set(sample.labels)]
    assert len(others) == rest
