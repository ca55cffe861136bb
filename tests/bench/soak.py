"""Verify that a sidecar's memory stays bounded: five million checks of more keys than it caches.

Memory grows while the caches fill; from half of the checks on it must stay constant.
"""

import argparse
import random
import sys
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median

import uvloop
from bench.environment.environment import bench_environment, traffic
from bench.environment.processes import rss_mib
from bench.environment.redis_records import fill
from bench.load.capture import altered
from bench.load.checks import check_load, framed
from bench.load.traffic import ALLOWED
from bench.parts.keys import examples_for_any_key
from bench.plan import Plan
from bench.report import Report

from authz.adapters import logs
from authz.core.keys import ENTROPY_BYTES, KeyFormat

SAMPLES = 50
GROWTH_MIB_MAX = 2.0

_FORMAT = KeyFormat("ttk_")
_PATIENCE_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Soak:
    """The memory of the sidecar after each fiftieth of the checks, and how many checks were answered wrongly."""

    rss_mib: list[float]
    calls: int
    unexpected: int

    @property
    def growth_mib(self) -> float:
        """How much more it held in the last quarter of the checks than in the third."""
        quarter = len(self.rss_mib) // 4
        return median(self.rss_mib[-quarter:]) - median(self.rss_mib[-2 * quarter : -quarter])


async def soak(plan: Plan, *, checks: int, keys: int) -> Soak:
    """Make `checks` checks of the plan's traffic and of `keys` further keys; returns the memory samples."""
    chance = random.Random(4)  # noqa: S311 -- the same traffic in every run
    samples = []
    async with bench_environment(plan, Report()) as environment:
        secrets = [_FORMAT.mint(chance.randbytes(ENTROPY_BYTES)) for _ in range(keys)]
        await fill(environment.stack.redis.url, secrets, keys)
        examples, codes = examples_for_any_key(environment.calls), frozenset({ALLOWED})
        calls = traffic(environment.calls)
        calls += [framed(altered(chance.choice(examples), secret=secret, codes=codes)) for secret in secrets]
        chance.shuffle(calls)
        asked, answered, unexpected = cycle(calls), 0, 0
        for _ in range(SAMPLES):
            run = await check_load(
                environment.sidecar.check_port, islice(asked, checks // SAMPLES), seconds=_PATIENCE_S
            )
            answered += run.calls
            unexpected += sum(run.unexpected.values())
            samples.append(rss_mib(environment.sidecar.pid))
    return Soak(samples, answered, unexpected)


def main() -> int:
    """Run with the options of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Look for memory that a sidecar does not give back.")
    parser.add_argument("--checks", type=int, default=5_000_000)
    parser.add_argument("--keys", type=int, default=50_000)
    options = parser.parse_args()
    logs.configure("error", "")
    soaked = uvloop.run(soak(Plan(), checks=options.checks, keys=options.keys))
    curve = " ".join(f"{sample:.1f}" for sample in soaked.rss_mib)
    sys.stdout.write(f"{soaked.calls:,} checks, {soaked.unexpected:,} of them with another answer than expected\n")
    sys.stdout.write(f"MiB: {curve}\ngrowth at the end: {soaked.growth_mib:.2f} MiB\n")
    return 0 if soaked.growth_mib <= GROWTH_MIB_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
