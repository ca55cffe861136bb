"""The part `memory`: what the stack holds with all keys in use, what it costs idle, and how soon a sidecar is ready."""

import asyncio
import time
from itertools import cycle
from pathlib import Path
from statistics import median

from bench.environment.environment import Environment, traffic
from bench.environment.processes import cpu_s, rss_mib
from bench.environment.sidecars import Sidecar
from bench.load.checks import check_load

SECTION = "Memory, idle cost and start, by process"


async def measure(environment: Environment) -> None:
    """Add a row for each process, and one for starting."""
    plan, report, stack = environment.plan, environment.report, environment.stack
    run = await check_load(
        environment.sidecar.check_port, cycle(traffic(environment.calls)), seconds=plan.run_s * plan.rounds
    )
    report.count(run.calls, sum(run.unexpected.values()))
    pids = {"authz": environment.sidecar.pid, "Redis": stack.redis.pid, "Envoy": environment.envoy.pid}
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    await asyncio.sleep(plan.idle_s)
    for name, pid in pids.items():
        idle_percent = (cpu_s(pid) - before[name]) / plan.idle_s * 100
        report.row(SECTION, name, {"rss_mib": rss_mib(pid), "idle_cpu_percent": idle_percent})
    report.row(SECTION, "Postgres, all processes", {"rss_mib": sum(map(rss_mib, _with_children(stack.postgres.pid)))})
    ready_s = median(_ready_s(environment) for _ in range(plan.starts))
    report.row(SECTION, "a sidecar's start", {"ready_s": ready_s})
    report.ratio(f"rss_mib_{plan.keys}_keys", report.sections[SECTION]["authz"]["rss_mib"])
    report.ratio("idle_cpu_percent", report.sections[SECTION]["authz"]["idle_cpu_percent"])
    report.ratio("ready_s", ready_s)


def _ready_s(environment: Environment) -> float:
    started_s = time.perf_counter()
    sidecar = Sidecar(environment.stack, "starting", {})
    sidecar.serve()
    took_s = time.perf_counter() - started_s
    sidecar.stop()
    return took_s


def _with_children(pid: int) -> list[int]:
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
