"""The part `fixed`: how long checks take at a rate that leaves the sidecar time, as most sidecars live.

The constant answer is asked at the same rate before and after, to tell the machine's hiccups from authz'.
"""

import gc
from itertools import cycle

from by_listener import CHECK, CONSTANT
from check_load import steady_load
from stage import Stage, traffic
from turns import speed

CALLS_PER_S = 2_000
SECTION = f"Checks at {CALLS_PER_S:,} a second, from when each was due, on one connection"

_FLOOR_SHARE = 0.15


async def measure(stage: Stage) -> None:
    """Add a row for authz and two for the constant answer; blocks meanwhile."""
    report, whole_s = stage.report, stage.plan.fixed_s
    floor_s = whole_s * _FLOOR_SHARE
    asked, allowed = cycle(traffic(stage.calls)), cycle(traffic(stage.calls, always_allowed=True))
    gc.collect()
    gc.disable()  # the generator's own pauses would be taken for the sidecar's
    try:
        for name, port, calls, seconds in (
            (f"{CONSTANT}, before", stage.constant_port, allowed, floor_s),
            (CHECK, stage.sidecar.check_port, asked, whole_s),
            (f"{CONSTANT}, after", stage.constant_port, allowed, floor_s),
        ):
            run = steady_load(port, calls, seconds=seconds, per_s=CALLS_PER_S)
            report.count(run.calls, sum(run.unexpected.values()))
            report.row(SECTION, name, speed(run))
    finally:
        gc.enable()
    row = report.sections[SECTION][CHECK]
    report.ratio(f"fixed_{CALLS_PER_S}_p99_ms", row["p99_ms"])
    report.ratio(f"fixed_{CALLS_PER_S}_p99.9_ms", row["p99.9_ms"])
