"""The part `envoy`: what requests through the real Envoy cost with authz, and with what it is compared to.

Throughput and latency with 64 connections, and the latency that is added with one; that also with no processor kept
awake, and with all, because much of it is waking them.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import cycle

from bench.environment.environment import Environment
from bench.environment.envoy_variants import CONSTANT, CONSTANT_TRACED, IN_PROCESS, NONE, WHOLE, WHOLE_TRACED
from bench.environment.machine import awake, processors
from bench.load.http import Prepared, http_load
from bench.load.measured import Load
from bench.load.traffic import ALLOWED, STATUSES, HttpRequest
from bench.load.wrk import WRK, Wrk
from bench.report import Report, Row
from bench.rounds import Rounds, Turn, in_turns, measured

SECTION = "Requests through Envoy, by what it asks (connections)"
MANY = 64

_VARIANTS = (NONE, IN_PROCESS, CONSTANT, WHOLE, CONSTANT_TRACED, WHOLE_TRACED)
_ALONE = (NONE, IN_PROCESS, CONSTANT, WHOLE)
_RUNS = ((MANY, _VARIANTS, ""), (1, _ALONE, ""), (1, _ALONE, "none"), (1, _ALONE, "all"))
"""How many connections, what they ask for, and which processors are kept awake, if not those of the whole bench."""

_FEWER = 3  # such runs are for comparison, and have so many times fewer rounds

_UNAUTHORIZED = 16

Sender = Callable[..., Awaitable[Load]]


async def measure(environment: Environment) -> None:
    """Add a row for each variant with one connection and with many, and their ratios."""
    senders = {name: _sender(environment, name) for name in _VARIANTS}
    pids = {"envoy": environment.envoy.pid, "redis": environment.stack.redis.pid}
    services = {WHOLE: environment.sidecar.pid, CONSTANT: environment.constant.pid}
    for connections, variants, which in _RUNS:
        turns: dict[str, Turn] = {}
        for name in variants:
            send = partial(
                senders[name], environment.envoy.urls[name], seconds=environment.plan.envoy_s, connections=connections
            )
            service = services.get(name.removesuffix(", traced"))
            asked = {} if service is None else {"server": service}
            turns[name] = partial(measured, environment.report, send, asked | pids)
        count = math.ceil(environment.plan.envoy_rounds / _FEWER) if which else environment.plan.envoy_rounds
        with awake(processors(which)) if which else nullcontext():
            rounds = await in_turns(count, turns)
        condition = f"_{which}_awake" if which else ""
        for name, row in rounds.medians().items():
            environment.report.row(SECTION, f"{name} ({connections}{condition.replace('_', ' ')})", row)
        if connections == MANY:
            _ratios(environment.report, rounds)
        else:
            environment.report.ratio(f"envoy_added_p50_whole_over_constant_1{condition}", rounds.compare(_added))


def _ratios(report: Report, rounds: Rounds) -> None:
    for name, of, to in (
        ("whole_over_constant", WHOLE, CONSTANT),
        ("traced_whole_over_constant", WHOLE_TRACED, CONSTANT_TRACED),
        ("whole_over_own_filters", WHOLE, IN_PROCESS),
        ("whole_over_none", WHOLE, NONE),
    ):
        report.ratio(f"envoy_throughput_{name}_{MANY}", rounds.ratio(of, to, "calls_per_s"))
    report.ratio(f"envoy_p99_whole_over_constant_{MANY}", rounds.ratio(WHOLE, CONSTANT, "p99_ms"))
    report.ratio(f"envoy_cpu_whole_over_constant_{MANY}", rounds.compare(_cpu))


def _cpu(rows: Mapping[str, Row]) -> float:
    """Compare what all processes spend on a request, which the scheduler has less of a hand in than in throughput."""
    whole_us, constant_us = (
        sum(rows[name][f"{process}_us"] for process in ("envoy", "server", "redis")) for name in (WHOLE, CONSTANT)
    )
    return whole_us / constant_us


def _added(rows: Mapping[str, Row]) -> float:
    """Compare what authz adds to the latency of a direct response with what the constant answer adds."""
    none_ms, constant_ms, whole_ms = (rows[name]["p50_ms"] for name in (NONE, CONSTANT, WHOLE))
    return (whole_ms - none_ms) / (constant_ms - none_ms)


def _sender(environment: Environment, name: str) -> Sender:
    """Prepare the traffic for a variant, with the statuses that are right there."""
    prepared = [Prepared(request.as_bytes(), _statuses(name, request)) for request in environment.requests]
    if WRK:
        return Wrk(environment.stack.folder, name.replace(" ", "-").replace("'", ""), prepared).load
    return lambda url, **shape: http_load(url, cycle(prepared), **shape)


def _statuses(name: str, request: HttpRequest) -> frozenset[int]:
    if name in {WHOLE, WHOLE_TRACED}:
        codes = request.codes
    else:
        # Envoy's own filter asks for a key on every route.
        codes = frozenset({_UNAUTHORIZED if name == IN_PROCESS and not request.has_known_key else ALLOWED})
    return frozenset(STATUSES[code] for code in codes)
