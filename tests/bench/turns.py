"""Measuring side by side: variants take turns, round after round, and medians of the rounds are compared.

Machines differ and are shared; what the variants share of both cancels out in a ratio.
"""

from collections.abc import Awaitable, Callable, Mapping
from statistics import median

from load import Load
from processes import cpu_s
from report import Report, Row

Turn = Callable[[], Awaitable[Row]]


async def in_turns(rounds: int, turns: Mapping[str, Turn]) -> dict[str, Row]:
    """Let every variant have its turn in every round; returns the medians, column by column."""
    rows: dict[str, list[Row]] = {name: [] for name in turns}
    for number in range(rounds):
        # Every other round goes backwards, so that nobody is always behind the same neighbour.
        for name in list(turns)[:: -1 if number % 2 else 1]:
            rows[name].append(await turns[name]())
    return {name: medians(measured) for name, measured in rows.items()}


def medians(rows: list[Row]) -> Row:
    """Take the median of each column."""
    return {column: median(row[column] for row in rows) for column in rows[0]}


async def measured(report: Report, load: Callable[[], Awaitable[Load]], pids: Mapping[str, int]) -> Row:
    """Run one load; returns what it cost each process for each call, and how fast it was."""
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    run = await load()
    costs = {f"{name}_us": (cpu_s(pid) - before[name]) / run.calls * 1e6 for name, pid in pids.items()}
    report.count(run.calls, sum(run.unexpected.values()))
    return costs | speed(run)


def speed(run: Load) -> Row:
    """Describe how fast a load was."""
    return {
        "calls_per_s": run.calls / run.seconds,
        "p50_ms": run.quantiles_ms[0],
        "p99_ms": run.quantiles_ms[1],
        "p99.9_ms": run.quantiles_ms[2],
        "wrong_percent": sum(run.unexpected.values()) / run.calls * 100,
    }
