"""The running servers that the bench measures: the stack, a constant listener, an Envoy for every variant, and traffic.

The measurements are in `parts/`.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.environment.envoy_variants import RECORD, BenchEnvoy
from bench.environment.sidecars import Sidecar
from bench.load.callers import Caller, make_callers
from bench.load.capture import Call, capture, recording
from bench.load.checks import Framed, check_load, framed
from bench.load.traffic import HttpRequest, Traffic
from bench.plan import Plan
from bench.report import Report

from authz.adapters.policy_file.loader import load_policy
from authz.demo.servers import Server, accepts, free_port
from authz.demo.stack import Stack

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Environment:
    """What the parts measure: `sidecar`, which is as shipped; the stack's own is the one that carries grpcio.

    `calls` are `requests` as Envoy asks about them; each was made once, to warm up.
    """

    plan: Plan
    report: Report
    stack: Stack
    sidecar: Sidecar
    constant: Server
    constant_port: int
    envoy: BenchEnvoy
    callers: list[Caller]
    requests: list[HttpRequest]
    calls: list[Call]


def constant_listener(folder: Path, name: str) -> tuple[Server, int]:
    """Start a listener that allows everything; returns it and its port."""
    port = free_port()
    program = Path(__file__).with_name("constant_listener.py")
    server = Server(name, [sys.executable, program, "--port", str(port)], folder / f"{name}.log")
    server.start(partial(accepts, port))
    return server, port


@asynccontextmanager
async def bench_environment(plan: Plan, report: Report) -> AsyncIterator[Environment]:
    """Start all servers, make keys and record the traffic; stop all servers afterwards."""
    chance = random.Random(1)  # noqa: S311 -- the same traffic in every run
    stack = Stack()
    await asyncio.to_thread(stack.start)
    servers: list[Server] = []
    try:
        for unused in (stack.envoy, stack.backend):
            unused.stop()
        callers = await make_callers(stack.settings, plan.keys, chance)
        requests = Traffic(load_policy(stack.settings.policy_file), callers, chance).draw(plan.requests)
        sidecar = Sidecar(stack, "sidecar", {})
        servers.append(sidecar)
        await asyncio.to_thread(sidecar.serve)
        constant, constant_port = constant_listener(stack.folder, "constant")
        servers.append(constant)
        collector, collector_port = constant_listener(stack.folder, "collector")
        servers.append(collector)
        recorder_port = free_port()
        ports = {
            "authz": sidecar.check_port,
            "constant": constant_port,
            "collector": collector_port,
            "recorder": recorder_port,
        }
        envoy = BenchEnvoy(stack.folder, ports, [caller.secret for caller in callers])
        servers.append(envoy)
        async with recording(recorder_port) as recorder:
            await asyncio.to_thread(envoy.start_all)
            calls = await capture(recorder, envoy.urls[RECORD], requests)
        await check_load(sidecar.check_port, iter(traffic(calls)), seconds=_PATIENCE_S)
        yield Environment(plan, report, stack, sidecar, constant, constant_port, envoy, callers, requests, calls)
    finally:
        for server in reversed(servers):
            server.stop()
        stack.stop()


def traffic(calls: list[Call], *, always_allowed: bool = False) -> list[Framed]:
    """Frame calls for a listener that answers as they deserve, or for one that allows everything."""
    return [framed(call, always_allowed=always_allowed) for call in calls]
