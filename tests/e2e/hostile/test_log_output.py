"""A log that nobody reads, a frozen disk, a full one, a closed pipe: checks, health, start and stop go on."""

import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.good_key import RATIO_MAX, GoodKey, undisturbed
from support.servers.stack import ROOMY

from authz.demo.stack import Stack

pytestmark = [pytest.mark.timed, pytest.mark.timeout(180)]

REQUESTS = 600
DENIALS = 2_000


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack(
        env={
            "AUTHZ_LOG_ALLOW_SAMPLE": "1",
            "AUTHZ_LOG_DENIALS_PER_S": "10000",
            "AUTHZ_REDIS_DEADLINE_S": "1",
            "AUTHZ_POSTGRES_DEADLINE_S": "1",
        }
    )
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def good(stack: Stack) -> GoodKey:
    return GoodKey(stack, stack.create_key("good", "servers:read", limit=ROOMY).secret)


Release = Callable[[], None]


def unread(folder: Path) -> tuple[Path, Release, Release]:
    """A pipe whose reader reads nothing: of a container's runtime that hangs, or of a disk that is frozen."""
    path = folder / "unread"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return path, lambda: None, lambda: os.close(reader)


def closed(folder: Path) -> tuple[Path, Release, Release]:
    path = folder / "closed"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return path, lambda: os.close(reader), lambda: None


def full(_folder: Path) -> tuple[Path, Release, Release]:
    return Path("/dev/full"), lambda: None, lambda: None


def metric(stack: Stack, name: str) -> float:
    with urllib.request.urlopen(f"{stack.admin_url}/metrics", timeout=5) as answer:  # noqa: S310 -- our own address
        lines = answer.read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.mark.parametrize("kind", [unread, closed, full])
def test_a_log_that_cannot_be_written_costs_nothing_but_lines(
    stack: Stack, good: GoodKey, folder: Path, kind: Callable[[Path], tuple[Path, Release, Release]]
) -> None:
    good.experience(REQUESTS)  # warm
    idle = undisturbed(good)
    sidecar, usual = stack.sidecars[0], stack.sidecars[0].log
    path, after_start, after_all = kind(folder)
    try:
        sidecar.stop()
        sidecar.log = path
        stack.start_sidecar(0)
        after_start()
        wait_for_envoy(good)
        GoodKey(stack, "nobody").experience(DENIALS, pause_s=0)  # far more than a pipe holds
        frozen = undisturbed(good)
        assert frozen.p99_s <= RATIO_MAX * idle.p99_s, (idle, frozen)
        for endpoint in ("/healthz", "/readyz"):
            with urllib.request.urlopen(f"{stack.admin_url}{endpoint}", timeout=1) as answer:  # noqa: S310 -- our own
                assert answer.status == 200
        failed = metric(stack, 'authz_log_lines_dropped_total{cause="write_failed"}')
        assert (failed > 0) == (kind is not unread)
        started_s = time.monotonic()
        assert sidecar.stop() == 0
        assert time.monotonic() - started_s < 4
    finally:
        with suppress(OSError):
            after_all()
        sidecar.stop()
        sidecar.log = usual
        stack.start_sidecar(0)
        wait_for_envoy(good)


def wait_for_envoy(good: GoodKey) -> None:
    deadline_s = time.monotonic() + 20
    while good.experience(20).success < 1:
        assert time.monotonic() < deadline_s
