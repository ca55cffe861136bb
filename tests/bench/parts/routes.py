"""The part `routes`: what the size of the policy does to a check, from ten routes to ten thousand.

Each policy has a sidecar of its own on the stack's stores; they take turns.
"""

import asyncio
import random
import time
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml
from bench.environment.environment import Environment
from bench.environment.processes import rss_mib
from bench.environment.sidecars import Sidecar
from bench.load.callers import EMPTY
from bench.load.capture import altered
from bench.load.checks import Framed, check_load, framed
from bench.load.traffic import ALLOWED
from bench.parts.keys import power
from bench.report import Row
from bench.rounds import Turn, in_turns, measured

from authz.demo.servers import shipped

SECTION = "Checks, by routes in the policy"

_SCOPE = "servers:read"
_CODES = frozenset({ALLOWED})
_NOUNS = ("servers", "worlds", "players", "backups", "files", "ports", "mods", "schedules", "databases", "ledgers")
_PATIENCE_S = 60.0


async def measure(environment: Environment) -> None:
    """Add a row for every size of the policy, and their ratio."""
    report, counts = environment.report, environment.plan.route_counts
    chance = random.Random(3)  # noqa: S311 -- the same traffic in every run
    turns: dict[str, Turn] = {}
    more: dict[str, Row] = {}
    with ExitStack() as running:
        for count in counts:
            started_s = time.perf_counter()
            sidecar = Sidecar(
                environment.stack, f"sidecar-{count}-routes", {"AUTHZ_POLICY_FILE": str(_policy(environment, count))}
            )
            running.callback(sidecar.stop)
            await asyncio.to_thread(sidecar.serve)
            ready_s = time.perf_counter() - started_s
            calls = _calls(environment, count, chance)
            await check_load(sidecar.check_port, iter(calls), seconds=_PATIENCE_S)
            more[_row(count)] = {"rss_mib": rss_mib(sidecar.pid), "ready_s": ready_s}
            load = partial(check_load, sidecar.check_port, cycle(calls), seconds=environment.plan.run_s)
            turns[_row(count)] = partial(measured, report, load, {"server": sidecar.pid})
        least, most = counts[0], counts[-1]
        rounds = await in_turns(environment.plan.rounds, turns, _row(least), _row(most), often=environment.plan.often)
    for name, row in rounds.medians().items():
        report.row(SECTION, name, row | more[name])
    ratio = rounds.ratio(_row(most), _row(least), "server_us")
    report.ratio(f"cpu_{power(most)}_routes_over_{power(least)}", ratio)


def _template(number: int) -> str:
    """Name a route: collections within collections, as APIs grow."""
    area, noun, verb = number // 100, _NOUNS[number // 10 % 10], number % 10
    return f"/v1/area{area}/{noun}/{{id}}" + (f"/part{verb}" if verb else "")


def _policy(environment: Environment, count: int) -> Path:
    policy: dict[str, Any] = yaml.safe_load(shipped("policies/truetick.yaml").read_text())
    policy["routes"] = [{"scope": _SCOPE, "match": f"GET {_template(number)}"} for number in range(count)]
    del policy["streams"]
    path = environment.stack.folder / f"{count}-routes.yaml"
    path.write_text(yaml.safe_dump(policy))
    return path


def _calls(environment: Environment, count: int, chance: random.Random) -> list[Framed]:
    examples = [call for call in environment.calls if call.codes == _CODES and b"ttk_" in call.message]
    callers = [caller for caller in environment.callers if _SCOPE in caller.scopes and caller.limit is not EMPTY]
    calls = []
    for _ in range(environment.plan.requests):
        target = _template(chance.randrange(count)).format(id=f"srv-{chance.getrandbits(40):x}")
        secret = chance.choice(callers).secret
        calls.append(framed(altered(chance.choice(examples), secret=secret, method="GET", target=target, codes=_CODES)))
    return calls


def _row(count: int) -> str:
    return f"{count:,} routes"
