"""Everything that is measured, running: the house, a constant-answer listener, an Envoy for every variant, and traffic.

What is measured on it is the parts' business: `by_*.py` and `footprint.py`.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from callers import Caller, make_callers
from capture import Call, capture, recording
from check_load import Framed, check_load, framed
from envoys import RECORD, BenchEnvoy
from plan import Plan
from report import Report
from sidecars import Sidecar
from traffic import HttpRequest, Traffic

from authz.adapters.policy_file import load_policy
from authz.demo.house import House
from authz.demo.servers import Server, accepts, free_port

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Stage:
    """What the parts measure: `sidecar`, which is as shipped; the house's own is the one that carries grpcio.

    `calls` are `requests` as Envoy asks about them; each was made once, to warm up.
    """

    plan: Plan
    report: Report
    house: House
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
    program = Path(__file__).with_name("constant.py")
    server = Server(name, [sys.executable, program, "--port", str(port)], folder / f"{name}.log")
    server.start(partial(accepts, port))
    return server, port


@asynccontextmanager
async def staged(plan: Plan, report: Report) -> AsyncIterator[Stage]:
    """Start everything, make keys, and record the traffic; stop everything afterwards."""
    chance = random.Random(1)  # noqa: S311 -- the same traffic in every run
    house = House()
    await asyncio.to_thread(house.start)
    servers: list[Server] = []
    try:
        for unused in (house.envoy, house.backend):
            unused.stop()
        callers = await make_callers(house.settings, plan.keys, chance)
        requests = Traffic(load_policy(house.settings.policy_file), callers, chance).draw(plan.requests)
        sidecar = Sidecar(house, "sidecar", {})
        servers.append(sidecar)
        await asyncio.to_thread(sidecar.serve)
        constant, constant_port = constant_listener(house.folder, "constant")
        servers.append(constant)
        collector, collector_port = constant_listener(house.folder, "collector")
        servers.append(collector)
        recorder_port = free_port()
        ports = {
            "authz": sidecar.check_port,
            "constant": constant_port,
            "collector": collector_port,
            "recorder": recorder_port,
        }
        envoy = BenchEnvoy(house.folder, ports, [caller.secret for caller in callers])
        servers.append(envoy)
        async with recording(recorder_port) as recorder:
            await asyncio.to_thread(envoy.start_all)
            calls = await capture(recorder, envoy.urls[RECORD], requests)
        await check_load(sidecar.check_port, iter(traffic(calls)), seconds=_PATIENCE_S)
        yield Stage(plan, report, house, sidecar, constant, constant_port, envoy, callers, requests, calls)
    finally:
        for server in reversed(servers):
            server.stop()
        house.stop()


def traffic(calls: list[Call], *, always_allowed: bool = False) -> list[Framed]:
    """Frame calls for a listener that answers as they deserve, or for one that allows everything."""
    return [framed(call, always_allowed=always_allowed) for call in calls]
