"""The part `cpu`: what a check costs on our listener, on grpcio's, and where nothing is decided.

Where h2load is installed it asks as well, the same check again and again: another hand on the same clock.
"""

from functools import partial
from itertools import cycle

from bench.environment.environment import Environment, traffic
from bench.load.callers import TIRELESS
from bench.load.capture import Call
from bench.load.checks import check_load
from bench.load.h2load import H2LOAD, h2load
from bench.load.traffic import ALLOWED
from bench.rounds import Turn, in_turns, measured

CHECK, GRPC, CONSTANT = "check listener", "grpc.aio server", "constant answer"
SECTION = "A check, by listener (connections x calls in flight)"


async def measure(environment: Environment) -> None:
    """Add the rows of every listener under every load, and their ratios."""
    plan, report = environment.plan, environment.report
    redis = {"redis": environment.stack.redis.pid}
    asked, allowed = cycle(traffic(environment.calls)), cycle(traffic(environment.calls, always_allowed=True))
    tireless = _tireless(environment)
    variants = {
        CHECK: (environment.sidecar.check_port, asked, {"server": environment.sidecar.pid, **redis}),
        GRPC: (environment.stack.grpc_ports[0], asked, {"server": environment.stack.sidecars[0].pid, **redis}),
        CONSTANT: (environment.constant_port, allowed, {"server": environment.constant.pid}),
    }
    for connections, in_flight in plan.loads:
        turns: dict[str, Turn] = {}
        for name, (port, calls, pids) in variants.items():
            shaped = partial(check_load, port, calls, connections=connections, in_flight=in_flight)
            turns[name] = partial(measured, report, partial(shaped, seconds=plan.run_s), pids)
            if H2LOAD and (connections, in_flight) == (1, 64):
                one = partial(h2load, port, tireless, environment.stack.folder, seconds=plan.run_s)
                turns[f"{name}, h2load"] = partial(measured, report, one, pids)
        rounds, load = await in_turns(plan.rounds, turns, GRPC, CHECK, CONSTANT), f"{connections}x{in_flight}"
        for name, row in rounds.medians().items():
            report.row(SECTION, f"{name} {load}", row)
        report.ratio(f"cpu_grpcaio_over_check_{load}", rounds.ratio(GRPC, CHECK, "server_us"))
        report.ratio(f"cpu_whole_over_constant_{load}", rounds.ratio(CHECK, CONSTANT, "server_us"))


def _tireless(environment: Environment) -> Call:
    """Find a call that is allowed however often it is made."""
    secrets = {caller.secret for caller in environment.callers if caller.limit is TIRELESS}
    return next(
        call
        for call, request in zip(environment.calls, environment.requests, strict=True)
        if call.codes == {ALLOWED} and secrets & set(dict(request.headers).values())
    )
