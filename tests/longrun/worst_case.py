"""Search for the worst CPU time that one request can cost, in every parser on its path: `make worst-case SECONDS=60`.

An input is a unit of atoms that is repeated up to the size that the parser is given at most, between a head and a
tail. Hill-climbing changes these; the best of each parser is then measured carefully at half its size and at its size.
The parsers are `support/parsers.py`.
"""

import argparse
import gc
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter, sleep, thread_time_ns

from support.parsers import PARSERS, Parser

US_MAX = 1_000
"""The most CPU time of one request, in microseconds."""

SLOPE_MAX = 3.0
"""How much longer an input of twice the size may take: 2 is linear, 4 is quadratic."""

_TOP = 10
_UNIT_ATOMS_MAX, _EDGE_ATOMS_MAX = 6, 4
_SLOPE_FROM_US = 150  # below it, the fixed cost of a check hides the slope
_CAREFUL = 25
_PAUSES_S = (0.0, 0.5, 2.0)


@dataclass(frozen=True)
class Input:
    """The text of a head, a unit that is repeated, and a tail, cut at a size."""

    head: tuple[bytes, ...]
    unit: tuple[bytes, ...]
    tail: tuple[bytes, ...]

    def text(self, size: int) -> bytes:
        head, unit, tail = b"".join(self.head), b"".join(self.unit), b"".join(self.tail)
        room = max(0, size - len(head) - len(tail))
        return (head + unit * (room // max(1, len(unit))) + tail)[:size]


@dataclass(frozen=True)
class Finding:
    """What the worst input of one parser costs. `slope` compares its size with half of it."""

    parser: Parser
    worst: Input
    bytes: int
    us: float
    slope: float

    @property
    def is_bad(self) -> bool:
        return self.us > US_MAX or (self.us > _SLOPE_FROM_US and self.slope > SLOPE_MAX)

    def row(self) -> str:
        head, unit, tail = (b"".join(it) for it in (self.worst.head, self.worst.unit, self.worst.tail))
        return (
            f"{self.parser.name:24} {self.us:8.0f} {self.bytes:7d} {1000 * self.us / max(1, self.bytes):8.1f}"
            f" {self.slope:6.1f}  {head!r}, {unit!r}…, {tail!r}{'  <- TOO MUCH' if self.is_bad else ''}"
        )


def cost_us(parser: Parser, text: bytes, times: int) -> float:
    """Measure the CPU time of one parse: the least of some, because other work only adds to it."""
    run, least = parser.prepare(text), float("inf")
    for _ in range(times):
        started = thread_time_ns()
        run()
        least = min(least, (thread_time_ns() - started) / 1000)
    return least


def search(parser: Parser, chance: random.Random, until_s: float, rounds: int) -> Input:
    """Climb to an input that takes long, until a time of `perf_counter` or for some rounds."""
    sizes = (parser.bytes_max, parser.bytes_max // 4)
    best, best_us = Input((), (parser.atoms[0],), ()), 0.0
    for _ in range(rounds):
        tried = _random(parser, chance) if chance.random() < 0.3 else _changed(best, parser, chance)
        found_us = max(cost_us(parser, tried.text(size), 2) for size in sizes)
        if found_us > best_us:
            best, best_us = tried, found_us
        if perf_counter() > until_s:
            break
    return best


def measure(parser: Parser, worst: Input) -> Finding:
    """Measure an input at its worst size, and how its cost grows up to it.

    What is too much is measured again: other programs that use the host's memory add to a cost for some seconds.
    """
    sizes = [parser.bytes_max >> shift for shift in range(7)]
    costs = dict.fromkeys(sizes, float("inf"))
    for pause_s in _PAUSES_S:
        sleep(pause_s)
        costs = {size: min(costs[size], cost_us(parser, worst.text(size), _CAREFUL)) for size in sizes}
        size = max(sizes[:-1], key=costs.__getitem__)
        finding = Finding(parser, worst, size, costs[size], costs[size] / max(costs[size // 2], 0.001))
        if not finding.is_bad:
            break
    return finding


def worst_cases(
    seconds: float, seed: int, rounds: int = 1_000_000, parsers: Sequence[Parser] = PARSERS
) -> list[Finding]:
    """Search parsers for equal shares of the time, each for some rounds at most; the worst findings come first."""
    chance = random.Random(seed)  # noqa: S311 -- nothing secret
    share_s = seconds / len(parsers)
    gc.disable()  # as good as: the sidecar freezes what it loaded, and a collection here would visit pytest's objects
    try:
        found = [measure(it, search(it, chance, perf_counter() + share_s, rounds)) for it in parsers]
    finally:
        gc.enable()
    return sorted(found, key=lambda it: -it.us)


def _random(parser: Parser, chance: random.Random) -> Input:
    def some(most: int, least: int = 0) -> tuple[bytes, ...]:
        return tuple(chance.choices(parser.atoms, k=chance.randint(least, most)))

    # Half of the inputs have no edges: what is well-formed gets further.
    edges = chance.choice((0, _EDGE_ATOMS_MAX))
    return Input(some(edges), some(chance.choice((1, _UNIT_ATOMS_MAX)), 1), some(edges))


def _changed(before: Input, parser: Parser, chance: random.Random) -> Input:
    other = _random(parser, chance)
    kind = chance.randrange(4)
    if kind == 0:
        return Input(other.head, before.unit, before.tail)
    if kind == 1:
        return Input(before.head, before.unit, other.tail)
    if kind == 2:
        return Input(before.head, (*before.unit, *other.unit)[:_UNIT_ATOMS_MAX], before.tail)
    unit = list(before.unit)
    unit[chance.randrange(len(unit))] = chance.choice(parser.atoms)
    return Input(before.head, tuple(unit), before.tail)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the names of the parsers to search")
    options = parser.parse_args(arguments)
    found = worst_cases(options.seconds, options.seed, parsers=[it for it in PARSERS if options.only in it.name])
    bad = [finding for finding in found if finding.is_bad]
    lines = [
        f"{'parser':24} {'µs':>8} {'bytes':>7} {'ns/byte':>8} {'slope':>6}  head, unit that is repeated, tail",
        *(finding.row() for finding in found[: max(_TOP, len(bad))]),
        f"limits: {US_MAX} µs and slope {SLOPE_MAX} (2 is linear); over one of them: {len(bad)}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
