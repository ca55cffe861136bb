"""The part `keys`: what the number of keys in Redis does to a check, from a hundred to a million.

Each number has a Redis of its own, which two sidecars take turns to ask: one for a hot set of five thousand keys at
most, as in life, and one for any key of all, where nothing remembered helps and what was is soon forgotten. Few keys
come in as many different requests as many do, so that nothing but the number of keys differs. How Redis is filled is
`projected.py`.
"""

import asyncio
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from bench.environment.environment import Environment
from bench.environment.redis_records import fill, memory_bytes
from bench.environment.sidecars import Sidecar
from bench.load.capture import Call, altered
from bench.load.checks import check_load, framed
from bench.load.traffic import ALLOWED
from bench.report import Row
from bench.rounds import Rounds, Turn, in_turns, measured

from authz.core.keys import ENTROPY_BYTES, KeyFormat
from authz.demo.servers import RedisServer

SECTION = "Checks, by keys in Redis and how many of them are asked for"
HOT_MAX = 5_000
ANY_MAX = 50_000

_FORMAT = KeyFormat("ttk_")
_CODES = frozenset({ALLOWED})
_PATIENCE_S = 60.0


async def measure(environment: Environment) -> None:
    """Add a row for every number of keys, hot and any, and their ratios."""
    counts, report = environment.plan.key_counts, environment.report
    chance = random.Random(2)  # noqa: S311 -- the same traffic in every run
    examples = examples_for_any_key(environment.calls)
    turns: dict[str, Turn] = {}
    sizes: dict[str, float] = {}
    with ExitStack() as running:
        for count in counts:
            redis = await _redis(environment, running)
            secrets = [_FORMAT.mint(chance.randbytes(ENTROPY_BYTES)) for _ in range(min(count, ANY_MAX))]
            empty_bytes = await memory_bytes(redis.url)
            await fill(redis.url, secrets, count)
            sizes[_row(count, "hot")] = (await memory_bytes(redis.url) - empty_bytes) / count
            for name, asked in {"hot": secrets[:HOT_MAX], "any": secrets}.items():
                if name == "hot" or count > HOT_MAX:
                    sidecar = await _sidecar(environment, running, redis, _row(count, name))
                    pids = {"server": sidecar.pid, "redis": redis.pid}
                    calls = [
                        framed(altered(chance.choice(examples), secret=secret, codes=_CODES))
                        for secret in islice(cycle(asked), max(len(asked), HOT_MAX))
                    ]
                    await check_load(sidecar.check_port, iter(calls), seconds=_PATIENCE_S)
                    load = partial(check_load, sidecar.check_port, cycle(calls), seconds=environment.plan.run_s)
                    turns[_row(count, name)] = partial(measured, report, load, pids)
        ends = _row(counts[0], "hot"), _row(counts[-1], "hot")
        rounds = await in_turns(environment.plan.rounds, turns, *ends, often=environment.plan.often)
    for name, row in rounds.medians().items():
        size = {"redis_bytes_per_key": sizes[name]} if name in sizes else {}
        report.row(SECTION, name, {"total_us": _total_us(row)} | row | size)
    _ratios(environment, rounds)
    report.ratio(f"redis_bytes_per_key_{power(counts[-1])}", sizes[_row(counts[-1], "hot")])


def _ratios(environment: Environment, rounds: Rounds) -> None:
    least, most = environment.plan.key_counts[0], environment.plan.key_counts[-1]

    def over_least(cost: Callable[[Row], float], asked: str, rows: Mapping[str, Row]) -> float:
        return cost(rows[_row(most, asked)]) / cost(rows[_row(least, "hot")])

    for short, cost in (("cpu", _server_us), ("cpu_with_redis", _total_us)):
        for of, asked in (("", "hot"), ("any_of_", "any")):
            if asked == "hot" or most > HOT_MAX:
                ratio = rounds.compare(partial(over_least, cost, asked))
                environment.report.ratio(f"{short}_{of}{power(most)}_keys_over_{power(least)}", ratio)


def _server_us(row: Row) -> float:
    return row["server_us"]


def _total_us(row: Row) -> float:
    return row["server_us"] + row["redis_us"]


def power(count: int) -> str:
    """Write a power of ten for a ratio's name: 10, 1e2, 1e3."""
    return str(count) if count < 100 else f"1e{len(str(count)) - 1}"


def examples_for_any_key(calls: Sequence[Call]) -> list[Call]:
    """Choose allowed calls into which any key may be put, since they name no account."""
    return [call for call in calls if call.codes == _CODES and b"ttk_" in call.message and b"acct_" not in call.message]


async def _redis(environment: Environment, running: ExitStack) -> RedisServer:
    redis = RedisServer(Path(tempfile.mkdtemp(dir=environment.stack.folder)), huge_pages=True)
    running.callback(redis.stop)
    await asyncio.to_thread(redis.start)
    return redis


async def _sidecar(environment: Environment, running: ExitStack, redis: RedisServer, name: str) -> Sidecar:
    sidecar = Sidecar(environment.stack, name, {"AUTHZ_REDIS_URL": redis.socket_url})
    running.callback(sidecar.stop)
    await asyncio.to_thread(sidecar.serve)
    return sidecar


def _row(count: int, asked: str) -> str:
    return f"{count:,} keys, {asked}"
