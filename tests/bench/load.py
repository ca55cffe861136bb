"""What a load measured: how long it took, each call's latency, and which answers were not the right ones."""

from array import array
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Load:
    """One run of a load generator; `unexpected` counts answers by a status or code that the call may not have."""

    seconds: float
    latencies_s: "array[float]" = field(repr=False)
    unexpected: dict[int, int]

    @property
    def calls(self) -> int:
        """How many calls were answered."""
        return len(self.latencies_s)

    def quantile_ms(self, share: float) -> float:
        """Return the latency that a share of the calls did not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000
