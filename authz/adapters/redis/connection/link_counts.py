"""What is counted of connections to Redis, for metrics.

`link.py` counts for one server, `cluster.py` adds the nodes of a cluster.
"""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class LinkCounts:
    """`reconnects` after a loss, `epoch_changes` among them, and commands without a reply beside their maximum."""

    reconnects: int = 0
    epoch_changes: int = 0
    in_flight: int = 0
    in_flight_max: int = 0

    def __add__(self, other: Self) -> "LinkCounts":
        return LinkCounts(
            self.reconnects + other.reconnects,
            self.epoch_changes + other.epoch_changes,
            self.in_flight + other.in_flight,
            self.in_flight_max + other.in_flight_max,
        )

    def ended(self) -> "LinkCounts":
        """Return the counts of a link that is closed: what happened stays, what is pending ends."""
        return LinkCounts(self.reconnects, self.epoch_changes)
