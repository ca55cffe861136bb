"""`make bench`: the cost of a check, listener against listener, on varied traffic.

Every figure that counts is a ratio inside one run. The report is `build/bench/report.json`, `report.md` and plots.
"""

import argparse
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import uvloop
from bench.environment.environment import Environment, bench_environment
from bench.environment.machine import NEVER_AWAKE, NOTES, PACKED, awake, packs, processors
from bench.load.h2load import H2LOAD
from bench.load.h2load import MISSING as H2LOAD_MISSING
from bench.load.wrk import MISSING as WRK_MISSING
from bench.load.wrk import WRK
from bench.parts import envoy as by_envoy
from bench.parts import keys as by_keys
from bench.parts import listener as by_listener
from bench.parts import memory as footprint
from bench.parts import rate as by_rate
from bench.parts import routes as by_routes
from bench.parts import streams as by_streams
from bench.parts import tracing as by_tracing
from bench.plan import FULL, PARTS, QUICK, Plan
from bench.plots import MISSING as NO_PLOTS
from bench.plots import draw
from bench.report import Report

from authz.adapters import logs

REPORT = Path("build/bench")

_MEASURES: dict[str, Callable[[Environment], Awaitable[None]]] = {
    "memory": footprint.measure,
    "cpu": by_listener.measure,
    "envoy": by_envoy.measure,
    "fixed": by_rate.measure,
    "keys": by_keys.measure,
    "routes": by_routes.measure,
    "streams": by_streams.measure,
    "tracing": by_tracing.measure,
}


async def run(plan: Plan, parts: Sequence[str], progress: Callable[[str], None], *, which: str = "most") -> Report:
    """Measure the parts and return the report."""
    report = Report()
    progress("setting up")
    with awake(processors(which)) as is_permitted:
        report.note(NOTES[which] if is_permitted else NEVER_AWAKE)
        if packs():
            report.note(PACKED)
        async with bench_environment(plan, report) as environment:
            for part in PARTS:
                if part in parts:
                    progress(part)
                    await _MEASURES[part](environment)
    return report


def main() -> int:
    """Run the parts named on the command line and write the report; returns the exit code."""
    options = _options()
    for part, tool, message in (("cpu", H2LOAD, H2LOAD_MISSING), ("envoy", WRK, WRK_MISSING)):
        if part in options.only and tool is None:
            sys.stderr.write(f"{message}\n")
    logs.configure("error", "")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no server is left behind, and no processor awake
    started_s = time.monotonic()

    def progress(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started_s:6.0f} s  {text}\n")

    plan = QUICK if options.quick else FULL
    report = uvloop.run(run(plan, options.only, progress, which=options.awake))
    report.write(REPORT)
    if not draw(report, REPORT):
        progress(NO_PLOTS)
    progress(f"written to {REPORT}")
    sys.stdout.write(report.as_markdown())
    if not report.is_sound:
        sys.stderr.write("too many wrong answers: no figure of this run is to be believed\n")
    return 0 if report.is_sound else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what a check costs.")
    parser.add_argument("--quick", action="store_true", help="a short run: under two minutes")
    parser.add_argument("--awake", choices=NOTES, default="most", help="which processors to keep awake")
    parser.add_argument(
        "--only", type=_parts, default=PARTS, metavar="PART,PART", help=f"which parts: {', '.join(PARTS)}"
    )
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := set(parts) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(sorted(unknown))}")
    return parts


if __name__ == "__main__":
    sys.exit(main())
