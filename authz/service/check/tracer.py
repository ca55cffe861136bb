"""What measures the steps of sampled checks.

The adapter is in `adapters/tracing/`. What is counted and logged of every check is `service.ports.CheckObserver`.
"""

from collections.abc import Sequence
from typing import Protocol

from authz.core.check import RequestAttributes
from authz.service.ports import Decided, Taken


class CheckTracer(Protocol):
    """Measures the steps of sampled checks; a check that is not sampled costs one look at a flag. Never raises."""

    def timed(self, requests: Sequence[tuple[int, RequestAttributes]], sampled: frozenset[int], taken: Taken) -> Taken:
        """Return a callback to use instead of `taken`, which measures a call of the projection that begins now.

        `sampled` has the numbers of sampled requests, among others.
        """
        ...

    def arrived(self, decided: Sequence[Decided], sampled: frozenset[int]) -> None:
        """Begin the sampled ones among checks that are decided without the projection."""
        ...

    def begin(self, attributes: RequestAttributes, step: str) -> None:
        """Begin a step: "postgres" for the load of a key, "lease" for a lease of its own."""
        ...

    def end(self, attributes: RequestAttributes, step: str) -> None:
        """End that step."""
        ...

    def repeat(self, attributes: RequestAttributes, step: str) -> None:
        """Record a step that the latest one did too."""
        ...
