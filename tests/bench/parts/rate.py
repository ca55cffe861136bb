"""The part `fixed`: how long checks take at a rate that leaves the sidecar time, as most sidecars live.

The constant answer is asked at the same rate before and after, to tell the machine's hiccups from authz'. What is
measured is with the generator on one processor, which is kept awake, and runs ahead of the machine's other processes;
then it is measured once more among them.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle

from bench.environment.environment import Environment, traffic
from bench.environment.machine import ahead, apart, awake, processors, stolen_s
from bench.load.checks import Exchange, Framed, joined, steady_exchange
from bench.load.measured import Load
from bench.parts.listener import CHECK, CONSTANT
from bench.report import Report
from bench.rounds import TRIES_MAX, speed

CALLS_PER_S = 2_000
SECTION = f"Checks at {CALLS_PER_S:,} a second, from when each was due, on one connection"

AMONG = f"{CHECK}, among all processes"

_FLOOR_SHARE, _AMONG_SHARE = 0.15, 0.5
_STRETCH_S = 1.0


async def measure(environment: Environment) -> None:
    """Add two rows for authz and two for the constant answer; blocks meanwhile."""
    report, whole_s = environment.report, environment.plan.fixed_s
    floor_s = whole_s * _FLOOR_SHARE
    asked, allowed = cycle(traffic(environment.calls)), cycle(traffic(environment.calls, always_allowed=True))
    pids = (os.getpid(), environment.sidecar.pid, environment.constant.pid, environment.stack.redis.pid)
    own = processors()[-1]
    gc.collect()
    gc.disable()  # the generator's own pauses would be taken for the sidecar's
    try:
        with awake([own]):
            for name, port, calls, seconds in (
                (f"{CONSTANT}, before", environment.constant_port, allowed, floor_s),
                (CHECK, environment.sidecar.check_port, asked, whole_s),
                (AMONG, environment.sidecar.check_port, asked, whole_s * _AMONG_SHARE),
                (f"{CONSTANT}, after", environment.constant_port, allowed, floor_s),
            ):
                with ExitStack() as prepared:
                    if name != AMONG:
                        # A generator that sleeps was woken five milliseconds late, and called it the check's time.
                        prepared.enter_context(apart(pids, own))
                        report.note(prepared.enter_context(ahead(pids)))
                    run = _undisturbed(report, port, calls, seconds)
                report.count(run.calls, sum(run.unexpected.values()))
                report.row(SECTION, name, speed(run))
    finally:
        gc.enable()
    for short, name in (("", CHECK), ("among_all_", AMONG)):
        for quantile in ("p99_ms", "p99.9_ms"):
            report.ratio(f"fixed_{CALLS_PER_S}_{short}{quantile}", report.sections[SECTION][name][quantile])


def _undisturbed(report: Report, port: int, calls: Iterator[Framed], seconds: float) -> Load:
    """Load for so many seconds in all, in stretches, with more of them where the host took the processors away.

    There are at most as many as if each were a turn; the least disturbed ones count. The shortest time that is reported
    as stolen holds up twenty calls, and two in a stretch make its p99.9: undisturbed is what had nothing stolen.
    """
    stretch_s = min(seconds, _STRETCH_S)
    wanted, clean = round(seconds / stretch_s), 0
    stretches: list[tuple[float, float, Exchange]] = []
    while clean < wanted and len(stretches) < wanted * TRIES_MAX:
        stolen_before_s = stolen_s()
        took_s, exchange = steady_exchange(port, calls, seconds=stretch_s, per_s=CALLS_PER_S)
        stretches.append((stolen_s() - stolen_before_s, took_s, exchange))
        clean += not stretches[-1][0]
    report.repeated += len(stretches) - wanted
    counted = sorted(stretches, key=lambda stretch: stretch[0])[:wanted]
    return joined(sum(took_s for _, took_s, _ in counted), [exchange for *_, exchange in counted])
