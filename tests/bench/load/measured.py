"""What a load measured: how many calls in which time, how long they took, and which answers were not the right ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

QUANTILES = (0.5, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Load:
    """One run of a load generator. `quantiles_ms` are the latencies that half, 99 % and 99.9 % of the calls kept to.

    `unexpected` counts answers by a status or code that the call may not have.
    """

    calls: int
    seconds: float
    quantiles_ms: tuple[float, float, float]
    unexpected: Mapping[int, int]

    @classmethod
    def of(cls, seconds: float, latencies_s: Sequence[float], unexpected: Mapping[int, int]) -> "Load":
        """Sum up a run from the latency of each call."""
        if not latencies_s:
            raise RuntimeError("not one call was answered")
        ordered = sorted(latencies_s)
        p50, p99, p999 = (ordered[int((len(ordered) - 1) * share)] * 1000 for share in QUANTILES)
        return cls(len(ordered), seconds, (p50, p99, p999), unexpected)
