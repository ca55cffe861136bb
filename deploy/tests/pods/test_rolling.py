"""Rolling updates of the shipped sidecar manifest under load: a new pod starts, then the old one is stopped.

`make pods-rolling` runs this alone and prints one line for each round.
"""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from pods.conftest import LONG, NewPod
from pods.load import Answer, Load, Stalls
from pods.pod_runner import Pod

ROUNDS, RATE = int(os.environ.get("ROUNDS", "20")), 300
_ENDPOINTS_S = 1.0  # how long after a pod's end began requests still arrive
_PRESSURE = Path("/proc/pressure/cpu")


@dataclass(frozen=True, slots=True)
class Round:
    """The times of one update, monotonic, the two ports, and how much of it some process waited for a CPU."""

    began_s: float
    ready_s: float
    ended_s: float
    old: int
    new: int
    waited: float


def pressure_s() -> float:
    """Return for how long in all some process here has waited for a CPU; 0 where the kernel does not measure it."""
    if not _PRESSURE.exists():
        return 0.0
    return int(_PRESSURE.read_text().splitlines()[0].rpartition("total=")[2]) / 1e6


async def update(load: Load, new_pod: NewPod, pods: list[Pod]) -> Round:
    """Start a pod, send it requests as well, and stop the one before."""
    loop = asyncio.get_running_loop()
    (old,) = pods
    began_s, waited_s = loop.time(), pressure_s()
    new = await asyncio.to_thread(new_pod)
    ready_s = loop.time()
    load.endpoints.append(new.port)
    stopping = asyncio.create_task(asyncio.to_thread(old.stop))
    await asyncio.sleep(_ENDPOINTS_S)
    load.leave(old.port)
    await stopping
    pods[:] = [new]
    ended_s = loop.time()
    share = (pressure_s() - waited_s) / (ended_s - began_s)
    return Round(began_s, ready_s, ended_s, old.port, new.port, share)


def row(number: int, done: Round, answers: list[Answer], stalls: Stalls) -> str:
    mine = [answer for answer in answers if done.began_s <= answer.sent_s < done.ended_s]
    failed = [answer for answer in mine if answer.status != "200"]
    when = Counter(
        "before" if answer.sent_s < done.ready_s else "new pod" if answer.port == done.new else "old pod"
        for answer in failed
    )
    slowest_ms = max(answer.took_s for answer in mine) * 1e3
    stall_ms = stalls.longest_s(done.began_s, done.ended_s) * 1e3
    where = ", ".join(f"{name} {count}" for name, count in when.items())
    return (
        f"{number:5} {len(mine):8} {len(failed):6} {slowest_ms:8.0f} ms {done.waited:11.0%} {stall_ms:8.0f} ms  {where}"
    )


def summary(load: Load, stalls: Stalls) -> str:
    failed = [answer for answer in load.answers if answer.status != "200"]
    stalled = sum(stalls.longest_s(answer.sent_s - 0.1, answer.sent_s + answer.took_s) > 0.05 for answer in failed)
    bodies = Counter((answer.status, answer.body) for answer in failed).most_common(4)
    deadlines = "ten times the shipped" if LONG else "shipped"
    lines = [f"deadlines: {deadlines}; answers: {dict(load.statuses)}"]
    if failed:
        lines += [f"{stalled} of {len(failed)} failed while this machine let a process wait for over 50 ms"]
        lines += [f"{count} x {status} {body!r}" for (status, body), count in bodies]
    return "\n".join(lines)


@pytest.mark.timeout(1_800)
async def test_no_request_fails_in_rolling_updates(new_pod: NewPod, key: str) -> None:
    pods: list[Pod] = [await asyncio.to_thread(new_pod)]
    stalls = Stalls()
    load = Load(key, RATE, [pods[0].port])
    running = asyncio.create_task(load.run())
    rounds = [await update(load, new_pod, pods) for _ in range(ROUNDS)]
    load.end()
    await running
    stalls.end()
    print(f"\n{'round':>5} {'requests':>8} {'failed':>6} {'slowest':>11} {'CPU waits':>11} {'stall':>11}  where")
    print(*(row(number, done, load.answers, stalls) for number, done in enumerate(rounds, 1)), sep="\n")
    print(summary(load, stalls))
    assert set(load.statuses) == {"200"}
    assert load.statuses["200"] > ROUNDS * RATE * 3
