"""Attacks on the ports of the sidecar: good keys and probes go on as if nothing happened."""

import os
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.clients.attackers import attacking
from support.good_key import IS_STRICT, GoodKey, compare
from support.servers.stack import ROOMY

from authz.demo.stack import Stack

pytestmark = [pytest.mark.timed, pytest.mark.timeout(180)]

_PROBES_MAX = 3

ADMIN = {
    "scrapers": [("scrape", 40)],
    "silent": [("silent", 3_000)],
}
if IS_STRICT:
    ADMIN["all-together"] = [("scrape", 40), ("pipeline", 20), ("trickle", 100), ("fill", 20)]
CHECK = {"silent": [("silent", 3_000)], "greetings": [("greet", 3_000)], "uploads": [("upload", 40)]}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack(env={"AUTHZ_REDIS_DEADLINE_S": "1", "AUTHZ_POSTGRES_DEADLINE_S": "1"})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def good(stack: Stack) -> GoodKey:
    return GoodKey(stack, stack.create_key("good", "servers:read", limit=ROOMY).secret)


def probe(stack: Stack, path: str) -> float:
    """Return how long a probe takes; three may fail in a row before a kubelet acts, each after a second."""
    for left in reversed(range(_PROBES_MAX)):
        started_s = time.perf_counter()
        try:
            with urllib.request.urlopen(f"{stack.admin_url}{path}", timeout=1) as answer:  # noqa: S310 -- our own
                assert answer.status == 200
                break
        except OSError:  # its connection made room for another
            assert left
    return time.perf_counter() - started_s


def memory_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 -- counts only


def verify_unharmed(stack: Stack, good: GoodKey, port: int, attacks: list[tuple[str, int]]) -> None:
    @contextmanager
    def attack() -> Iterator[None]:
        with attacking(str(port), *attacks):
            yield
            assert max(probe(stack, path) for path in ("/healthz", "/readyz") for _ in range(5)) < 1

    compare(good, attack)


@pytest.mark.parametrize("name", ADMIN)
def test_attacks_on_the_admin_port_cost_good_keys_and_probes_nothing(stack: Stack, good: GoodKey, name: str) -> None:
    before = open_files(stack.pids["authz"])
    verify_unharmed(stack, good, stack.admin_ports[0], ADMIN[name])
    assert open_files(stack.pids["authz"]) < before + 80


@pytest.mark.parametrize("name", CHECK)
def test_attacks_on_the_check_port_cost_good_keys_and_probes_nothing(stack: Stack, good: GoodKey, name: str) -> None:
    verify_unharmed(stack, good, stack.check_ports[0], CHECK[name])
    assert memory_mib(stack.pids["authz"]) < 400
