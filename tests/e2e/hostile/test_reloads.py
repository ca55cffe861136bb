"""Reloads under load: no request fails, and no decision mixes two policies. `make reloads` takes longer."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.reloads import POLICIES, publish, reloading
from support.servers.stack import ROOMY

from authz.demo.stack import Stack

pytestmark = [pytest.mark.timed, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volume")
    publish(path, 0, POLICIES["other.example"])
    return path


@pytest.fixture(scope="module")
def stack(volume: Path) -> Iterator[Stack]:
    # A busy machine may stop a process for longer than the deadline of Redis.
    env = {"AUTHZ_REDIS_DEADLINE_S": "1", "AUTHZ_ADMIN_RELOAD": "true"}
    env["AUTHZ_POLICY_FILE"] = str(volume / "policy.yaml")
    stack = Stack(env=env)
    stack.start()
    yield stack
    stack.stop()


def test_no_check_fails_and_none_is_decided_by_a_mixture(stack: Stack, volume: Path) -> None:
    key = stack.create_key("reader", "servers:read", limit=ROOMY).secret
    report = asyncio.run(reloading(stack, volume, key, reloads=20, connections=4))
    assert report.faults == []
    assert report.outcomes == {"reloaded": 10, "failed": 10}
    assert set(report.responses) == {"200", "403"}


def test_a_reload_is_for_this_machine_and_for_no_page(stack: Stack) -> None:
    url = f"{stack.admin_url}/policy/reload"
    assert httpx.get(url, trust_env=False).status_code == 405
    assert httpx.post(url, headers={"origin": "http://127.0.0.1"}, trust_env=False).status_code == 403
    assert httpx.post(url, trust_env=False).status_code in {200, 422}  # the present file may be a faulty one
    ready = httpx.get(f"{stack.admin_url}/readyz", trust_env=False).json()
    assert set(ready["policy"]) == {"digest", "version", "routes", "loaded", "last_reload"}
