"""What clients see when a container of the pod, or Redis, crashes or is killed for its memory, under load.

`make pods` runs this; it writes `build/pods/failures.md`.
"""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from pods.conftest import NewPod
from pods.load import Load
from pods.pod_runner import ROOT, Pod, podman, wait_until

from authz.demo.servers import accepts, free_port

RATE = 100
REPORT = ROOT / "build/pods/failures.md"
_REDIS, _REDIS_MEMORY_MIB = "localhost/authz-test-redis", 48
# Allocates after a line on standard input.
_ALLOCATE = "import sys; sys.stdin.readline(); eaten = bytearray(b'x') * (400 << 20)"
_STOPPED_S, _AFTER_S = 0.2, 8.0  # a kubelet notices an end within a second and starts the first restart at once


class Victim:
    """One container of a pod under load."""

    def __init__(self, container: str, is_back: Callable[[], bool]) -> None:
        self.container = container
        self.is_back = is_back

    @property
    def is_running(self) -> bool:
        return podman("inspect", "--format={{.State.Running}}", self.container) == "true"

    @property
    def exit_status(self) -> int:
        return int(podman("inspect", "--format={{.State.ExitCode}}", self.container))

    def crash(self) -> None:
        podman("kill", "--signal=KILL", self.container)

    def run_out_of_memory(self) -> None:
        """Allocate inside of the container's limit until the kernel kills its first process."""
        pid = podman("inspect", "--format={{.State.Pid}}", self.container)
        command = ["podman", "exec", "--interactive", self.container, "/usr/bin/python3", "-c", _ALLOCATE]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as allocating:
            wait_until(lambda: len(_members(pid)) > 1)
            # The kernel then chooses the container's own process, as if that one had grown.
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
            allocating.communicate("now\n")


@pytest.fixture(scope="module")
def report() -> Iterator[list[str]]:
    """Collect the rows of the table; at the end, write and print it."""
    rows = [
        f"| what ends | by | answers, of {RATE} requests a second | first to last failure |",
        "|---|---|---|--:|",
    ]
    yield rows
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join(rows) + "\n")
    print("", *rows, sep="\n")


@pytest.fixture
def redis_container() -> Iterator[tuple[str, str]]:
    """A Redis with a memory limit, and its URL."""
    port = free_port()
    limit = f"--memory={_REDIS_MEMORY_MIB}m"
    container = podman("run", "--detach", "--network=host", limit, _REDIS, "--port", str(port))
    wait_until(lambda: accepts(port))
    yield container, f"redis://127.0.0.1:{port}/0"
    podman("rm", "--force", "--time=1", container)


async def seen(pod: Pod, key: str, victim: Victim, kill: Callable[[], None]) -> tuple[Load, float]:
    """Return the load around one end of a container, and the time from its first failure to the last, in seconds."""
    load = Load(key, RATE, [pod.port])
    running = asyncio.create_task(load.run())
    await asyncio.sleep(2)
    before = len(load.answers)
    assert load.statuses["200"], "nothing works before"
    await asyncio.to_thread(kill)
    await asyncio.to_thread(wait_until, lambda: not victim.is_running)
    assert victim.exit_status == 137
    await asyncio.sleep(_STOPPED_S)
    await asyncio.to_thread(podman, "start", victim.container)
    await asyncio.to_thread(wait_until, victim.is_back)
    await asyncio.sleep(_AFTER_S)
    load.end()
    await running
    failed = [answer for answer in load.answers[before:] if answer.status != "200"]
    assert failed, "nothing happened"
    last_s = max(answer.sent_s for answer in load.answers)
    ended_s = max(answer.sent_s + answer.took_s for answer in failed)
    assert ended_s < last_s - 1, "service is not back"
    return load, ended_s - min(answer.sent_s for answer in failed)


def _members(pid: str) -> list[str]:
    """Return the processes of a container's memory cgroup, by this machine's ids."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    paths = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
    root, name = ("/sys/fs/cgroup/memory", "memory") if "memory" in paths else ("/sys/fs/cgroup", "")
    group = Path(root) / paths[name][1:]
    return (group / "cgroup.procs").read_text().split()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("by", ["a crash", "its memory limit"])
@pytest.mark.parametrize("name", ["authz", "envoy"])
async def test_a_container_ends_and_comes_back(
    new_pod: NewPod, key: str, report: list[str], name: str, by: str
) -> None:
    pod = await asyncio.to_thread(new_pod)
    victim = Victim(pod.containers[name], lambda: accepts(pod.port))
    kill = victim.crash if by == "a crash" else victim.run_out_of_memory
    load, gone_s = await seen(pod, key, victim, kill)
    report.append(f"| {name} | {by} | {counts(load)} | {gone_s:.1f} s |")
    # Nothing is admitted without a decision: a 503 from Envoy, or no connection where Envoy itself is gone.
    no_connection = {"ConnectionRefusedError", "ConnectionResetError", "IncompleteReadError"}
    others = {"503"} if name == "authz" else {"503", *no_connection}
    assert set(load.statuses) <= {"200"} | others
    await asyncio.to_thread(pod.remove)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("by", ["a crash", "its memory limit"])
async def test_redis_ends_and_comes_back_empty(
    new_pod: NewPod, key: str, report: list[str], redis_container: tuple[str, str], by: str
) -> None:
    container, url = redis_container
    pod = await asyncio.to_thread(new_pod, redis_url=url)
    port = int(url.rpartition(":")[2].removesuffix("/0"))
    victim = Victim(container, lambda: accepts(port))
    kill = victim.crash if by == "a crash" else lambda: fill(url)
    load, gone_s = await seen(pod, key, victim, kill)
    report.append(f"| Redis | {by} | {counts(load)} | {gone_s:.1f} s |")
    assert set(load.statuses) == {"200", "503"}
    await asyncio.to_thread(pod.remove)


def fill(url: str) -> None:
    """Write more into Redis than its container may hold."""
    with suppress(redis.RedisError, OSError), redis.Redis.from_url(url) as client:
        for number in range(2 * _REDIS_MEMORY_MIB):
            client.set(f"filler-{number}", os.urandom(1 << 20))


def counts(load: Load) -> str:
    return ", ".join(f"{count} of {status}" for status, count in sorted(load.statuses.items()))
