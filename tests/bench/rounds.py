"""Measuring side by side: variants take turns, round after round, and are compared within each round.

Machines differ and are shared; what the variants share of both cancels out in a ratio. A shared machine changes from
one second to the next, so neighbours in time are divided, and the median is taken of what comes out.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from statistics import median

from bench.environment.machine import stolen_s
from bench.environment.processes import cpu_s
from bench.load.measured import Load
from bench.report import Report, Row

STOLEN_MAX_S = 0.02
"""How much of the processors' time the host may take away from a turn that counts."""

TRIES_MAX = 2

Turn = Callable[[], Awaitable[Row]]


class Rounds:
    """What each variant of `names` measured in each round."""

    def __init__(self, names: Iterable[str], rounds: Sequence[Mapping[str, Row]]) -> None:
        self._names = tuple(names)
        self._rounds = rounds

    def medians(self) -> dict[str, Row]:
        """Return a row for every variant, in the order of the names: of each column the median."""
        return {name: _medians([rows[name] for rows in self._rounds]) for name in self._names}

    def ratio(self, of: str, to: str, column: str) -> float:
        """Compare a column of two variants."""
        return self.compare(lambda rows: rows[of][column] / rows[to][column])

    def compare(self, value: Callable[[Mapping[str, Row]], float]) -> float:
        """Return the median of what each round's rows come to."""
        return median(value(rows) for rows in self._rounds)


def _medians(rows: Sequence[Row]) -> Row:
    return {column: median(row[column] for row in rows) for column in rows[0]}


async def in_turns(rounds: int, turns: Mapping[str, Turn], *compared: str, often: int = 1) -> Rounds:
    """Let every variant have its turn in every round; those that are `compared` are neighbours, before all others.

    These have as many turns in a round as `often` says, and what counts of them is the median: one turn differs from
    the next by more than the few percent by which some may differ.
    """
    order = [*compared * often, *(name for name in turns if name not in compared)]
    taken: list[dict[str, list[Row]]] = [defaultdict(list) for _ in range(rounds)]
    for number, rows in enumerate(taken):
        # Every other round goes backwards, so that nobody is always behind the same neighbour.
        for name in order[:: -1 if number % 2 else 1]:
            rows[name].append(await turns[name]())
    return Rounds(turns, [{name: _medians(of) for name, of in rows.items()} for rows in taken])


async def measured(report: Report, load: Callable[[], Awaitable[Load]], pids: Mapping[str, int]) -> Row:
    """Run one load; returns what it cost each process for each call, and how fast it was.

    Where the host took the processors away meanwhile, it is run again, and the less disturbed run counts.
    """
    rows: list[tuple[float, Row]] = []
    while len(rows) < TRIES_MAX and all(stolen > STOLEN_MAX_S for stolen, _ in rows):
        stolen_before_s, before = stolen_s(), {name: cpu_s(pid) for name, pid in pids.items()}
        run = await load()
        costs = {f"{name}_us": (cpu_s(pid) - before[name]) / run.calls * 1e6 for name, pid in pids.items()}
        report.count(run.calls, sum(run.unexpected.values()))
        rows.append((stolen_s() - stolen_before_s, costs | speed(run)))
    report.repeated += len(rows) - 1
    return min(rows, key=lambda row: row[0])[1]


def speed(run: Load) -> Row:
    """Describe how fast a load was."""
    return {
        "calls_per_s": run.calls / run.seconds,
        "p50_ms": run.quantiles_ms[0],
        "p99_ms": run.quantiles_ms[1],
        "p99.9_ms": run.quantiles_ms[2],
        "wrong_percent": sum(run.unexpected.values()) / run.calls * 100,
    }
