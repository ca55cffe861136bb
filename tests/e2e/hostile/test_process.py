"""What an operator does to a running process: signals, another policy, low limits."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.clients.attackers import attacking
from support.servers.stack import ROOMY

from authz.demo.servers import shipped
from authz.demo.stack import Stack

pytestmark = pytest.mark.timeout(120)

CODE = """
import logging, resource
logging.basicConfig(level="WARNING", format="%(message)s %(open_files)s %(needed)s %(connections)s")
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from authz.process import connections_within
print(connections_within(1024, 256), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "truetick.yaml"
    shutil.copy(shipped("policies/truetick.yaml"), path)
    return path


@pytest.fixture(scope="module")
def stack(policy: Path) -> Iterator[Stack]:
    stack = Stack(portal=True, env={"AUTHZ_POLICY_FILE": str(policy)})
    stack.start()
    yield stack
    stack.stop()


def reloads(stack: Stack) -> dict[str, float]:
    text = httpx.get(f"{stack.admin_url}/metrics", trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith("authz_policy_reloads_total")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}


def reload(stack: Stack, outcome: str) -> None:
    before = reloads(stack)[outcome]
    stack.sidecars[0].signal(signal.SIGHUP)
    deadline_s = time.monotonic() + 20
    while reloads(stack)[outcome] == before:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_hangup_loads_the_policy_anew_and_keeps_the_old_one_where_it_is_faulty(stack: Stack, policy: Path) -> None:
    key = stack.create_key("reader", "servers:read", limit=ROOMY).secret

    def status() -> int:
        return httpx.get(f"{stack.url}/v1/servers", headers={"x-api-key": key}, trust_env=False).status_code

    original = policy.read_text()
    assert status() == 200
    assert "GET /v1/servers" in original or "/v1/servers" in original
    policy.write_text("routes: [")
    reload(stack, "failed")
    assert status() == 200
    policy.write_text(original.replace("/v1/servers", "/v2/servers"))
    try:
        reload(stack, "reloaded")
        assert status() == 404
    finally:
        policy.write_text(original)
        reload(stack, "reloaded")
    assert status() == 200


def test_a_hangup_reloads_the_policy_of_the_portal(stack: Stack, policy: Path) -> None:
    def state() -> dict[str, str]:
        with urllib.request.urlopen(f"{stack.portal_admin_url}/readyz", timeout=5) as response:  # noqa: S310 -- our own
            found: dict[str, str] = json.load(response)["policy"]
            return found

    assert stack.portal is not None
    original, before = policy.read_text(), state()["digest"]
    policy.write_text(original.replace("name: truetick", "name: other"))
    try:
        stack.portal.signal(signal.SIGHUP)
        deadline_s = time.monotonic() + 20
        while state()["digest"] == before:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        described = httpx.get(f"{stack.url}/dashboard/openapi.json", trust_env=False)
        assert described.json()["info"]["title"] == "other portal"
    finally:
        policy.write_text(original)


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "raised", "warns"),
    [
        (256, 4_096, 1_024, 1_280, False),
        (256, 600, 344, 600, True),
        (64, 64, 1, 64, True),
        (2_000, 2_000, 1_024, 2_000, False),
    ],
)
def test_the_limit_on_open_files_is_raised_or_said_with_numbers(
    soft: int,
    hard: int,
    connections: int,
    raised: int,
    warns: bool,  # noqa: FBT001
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(soft=soft, hard=hard)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(connections), str(raised)]
    assert ("ulimit -n" in done.stderr) == warns
    if warns:
        assert done.stderr.split()[-3:] == [str(raised), "1280", str(connections)]


def test_a_sidecar_that_runs_out_of_descriptors_goes_on(stack: Stack) -> None:
    key = stack.create_key("reader", "servers:read", limit=ROOMY).secret
    pid = stack.pids["authz"]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    with httpx.Client(headers={"x-api-key": key}, trust_env=False) as client:
        assert client.get(f"{stack.url}/v1/servers").status_code == 200
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 10, before[1]))
        try:
            with attacking(str(stack.check_ports[0]), ("greet", 50)):
                for _ in range(50):
                    assert client.get(f"{stack.url}/v1/servers").status_code == 200
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert client.get(f"{stack.url}/v1/servers").status_code == 200
    log = [json.loads(line) for line in stack.sidecars[0].log.read_text().splitlines() if line.startswith("{")]
    assert any(line["event"] == "a connection cannot be accepted" for line in log)


@pytest.mark.parametrize(("descriptor", "report"), [(0, 1), (1, 2), (2, 1)])
def test_a_closed_standard_descriptor_is_no_socket_later(descriptor: int, report: int) -> None:
    code = "import os; from authz.process import prepare; prepare(); "
    code += f"os.write({report}, os.readlink('/proc/self/fd/{descriptor}').encode())"
    command = ["/bin/sh", "-c", f'exec {descriptor}>&-; exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout if report == 1 else done.stderr) == "/dev/null"
