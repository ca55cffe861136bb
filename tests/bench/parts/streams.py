"""The part `streams`: what caps on open streams cost requests that are none, which should be nothing.

Three sidecars take turns at the same ordinary checks: one whose policy has no stream classes, one whose policy has, and
one to which a real Envoy reports open streams meanwhile. What streams themselves cost is not measured.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml
from bench.environment.environment import Environment
from bench.environment.sidecars import Sidecar
from bench.load.checks import check_load, framed, steady_load
from bench.rounds import Turn, in_turns, measured

from authz.core.limits import Limit
from authz.demo.envoy import EnvoyServer
from authz.demo.servers import accepts, free_port, shipped

SECTION = "Ordinary checks, by what the policy and Envoy know of streams"
NONE, CLASSES, REPORTING = "no stream classes", "stream classes", "stream classes, 40 streams reporting"

_OPEN = 40
_HEARTBEAT_S = 1.0
_PER_S = 2_000
_STREAM = "/logs/stream"
_ROOMY = Limit(1_000_000, 1_000_000)
_ROUNDS = 3  # times the plan's: the differences are small
_PATIENCE_S = 60.0


async def measure(environment: Environment) -> None:
    """Add a row for each sidecar, and their ratios."""
    calls = [framed(call) for call in environment.calls if _STREAM.encode() not in call.before + call.after]
    turns: dict[str, Turn] = {}
    async with AsyncExitStack() as running:
        for name in (NONE, CLASSES, REPORTING):
            env = {"AUTHZ_POLICY_FILE": str(_policy(environment, name)), "AUTHZ_STREAM_HEARTBEAT_S": str(_HEARTBEAT_S)}
            sidecar = Sidecar(environment.stack, f"sidecar, {name}", env)
            running.callback(sidecar.stop)
            await asyncio.to_thread(sidecar.serve)
            await check_load(sidecar.check_port, iter(calls), seconds=_PATIENCE_S)
            port, run_s, pids = sidecar.check_port, environment.plan.run_s, {"server": sidecar.pid}
            load = partial(check_load, port, cycle(calls), seconds=run_s)
            turns[name] = partial(measured, environment.report, load, pids)
            # A machine that has nothing left tells more of itself than of a sidecar: latencies are compared at a rate.
            load = partial(asyncio.to_thread, steady_load, port, cycle(calls), seconds=run_s, per_s=_PER_S)
            turns[_at_rate(name)] = partial(measured, environment.report, load, pids)
            if name == REPORTING:
                await running.enter_async_context(_open_streams(environment, sidecar.check_port))
        rounds = await in_turns(_ROUNDS * environment.plan.rounds, turns)
    for name, row in rounds.medians().items():
        environment.report.row(SECTION, name, row)
    for short, name in (("streams", CLASSES), ("reporting_streams", REPORTING)):
        environment.report.ratio(f"cpu_ordinary_{short}_over_none", rounds.ratio(name, NONE, "server_us"))
        p99 = rounds.ratio(_at_rate(name), _at_rate(NONE), "p99_ms")
        environment.report.ratio(f"p99_ordinary_{short}_over_none", p99)


def _at_rate(name: str) -> str:
    return f"{name}, {_PER_S:,} a second"


def _policy(environment: Environment, name: str) -> Path:
    policy: dict[str, Any] = yaml.safe_load(shipped("policies/truetick.yaml").read_text())
    policy["invalid_keys"] = {"capacity": 1_000_000, "refill_per_s": 1_000_000}
    if name == NONE:
        del policy["streams"]
        for route in policy["routes"]:
            route.pop("stream", None)
    else:
        policy["streams"]["logs"] |= {"per_key": _OPEN, "per_account": _OPEN}
    path = environment.stack.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(policy))
    return path


@asynccontextmanager
async def _open_streams(environment: Environment, check_port: int) -> AsyncIterator[None]:
    """Keep streams open through an Envoy of their own, which reports them to one sidecar."""
    stack, port = environment.stack, free_port()
    backend_port = int(stack.backend_url.rpartition(":")[2])
    envoy = EnvoyServer(
        Path(tempfile.mkdtemp(dir=stack.folder)),
        port=port,
        authz_ports=[check_port],
        backend_port=backend_port,
        portal_port=backend_port,
        portal_secret="unused" * 8,
        heartbeat_s=_HEARTBEAT_S,
    )
    key = await asyncio.to_thread(stack.create_key, "streams", "servers:read", limit=_ROOMY)
    request = f"GET /v1/servers/s1{_STREAM} HTTP/1.1\r\nhost: x\r\nx-api-key: {key.secret}\r\n\r\n".encode()
    try:
        await asyncio.to_thread(stack.backend.start, partial(accepts, backend_port))
        await asyncio.to_thread(envoy.start, partial(accepts, port))
        writers = [await _opened(port, request) for _ in range(_OPEN)]
        await asyncio.sleep(2 * _HEARTBEAT_S)  # each is reported
        yield
        for writer in writers:
            writer.close()
    finally:
        envoy.stop()
        stack.backend.stop()


async def _opened(port: int, request: bytes) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.readline()
    if b" 200 " not in answer:
        raise RuntimeError(f"no stream: {answer!r}")
    return writer
