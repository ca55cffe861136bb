"""The steps of sampled checks while they are decided. What becomes of them is `adapters/tracing/`."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from time import perf_counter
from typing import Final, Self, TypeAlias

from msgspec import Struct

from authz.core.traces.steps import SampledCheck, Step
from authz.service.ports import Decided

OnSampled: TypeAlias = Callable[[Sequence[SampledCheck], float], None]
"""Receives sampled checks that were decided together, and their latency. Never waits, never raises."""

_NUMBER: Final = itemgetter(0)


class Steps(Struct):
    """The steps of the sampled checks of a batch, whose numbers are `sampled`.

    All of them share the query of the projection, `of_store`. What one of them needs beside it is noted under its
    number: "postgres" for the load of its key, "lease" for a lease. `before` are the steps of a check that was sampled
    in another batch.
    """

    sampled: frozenset[int]
    before: Sequence[Step] = ()
    asked_s: float = 0.0
    of_store: Step | None = None
    of_one: dict[int, list[Step]] = {}

    def asked(self) -> None:
        """Note that the projection is queried now."""
        self.asked_s = perf_counter()

    def replied(self) -> None:
        """Note that the projection has replied now, if it was queried."""
        if self.asked_s:
            self.of_store = Step("redis", self.asked_s, perf_counter())

    def begin(self, number: int, name: str) -> None:
        """Begin a step of one check, if that is sampled."""
        if number in self.sampled:
            self.of_one.setdefault(number, self._of_all()).append(Step(name, perf_counter()))

    def end(self, number: int) -> None:
        """End the step of one check that began last."""
        if steps := self.of_one.get(number):
            steps[-1] = Step(steps[-1].name, steps[-1].start_s, perf_counter())

    def repeat(self, number: int, name: str) -> None:
        """Add a step with the times of the query of the projection, which did both."""
        if number in self.sampled and self.of_store is not None:
            step = Step(name, self.of_store.start_s, self.of_store.end_s)
            self.of_one.setdefault(number, self._of_all()).append(step)

    def alone(self, number: int) -> Self | None:
        """Return the steps of one check that continues in a batch of its own; None if it is not sampled."""
        return type(self)(frozenset({number}), self._of(number)) if number in self.sampled else None

    def traced(self, decided: Sequence[Decided]) -> list[SampledCheck]:
        """Return the sampled ones among decisions."""
        return [
            SampledCheck(attributes, decision, self._of(number))
            for number, attributes, decision in _numbered(decided, self.sampled)
        ]

    def _of(self, number: int) -> list[Step]:
        return self.of_one.get(number) or self._of_all()

    def _of_all(self) -> list[Step]:
        return [*self.before] if self.of_store is None else [*self.before, self.of_store]


def _numbered(decided: Sequence[Decided], numbers: Iterable[int]) -> list[Decided]:
    """Find decisions by number. They are usually in this order, so that a search need not look at all of them."""
    found: list[Decided] = []
    for number in numbers:
        at = bisect_left(decided, number, key=_NUMBER)
        if at < len(decided) and decided[at][0] == number:
            found.append(decided[at])
        else:
            found += [each for each in decided if each[0] == number]
    return found
