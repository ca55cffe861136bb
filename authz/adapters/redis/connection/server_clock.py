"""The clock of one Redis server, as far as this process knows it from the latest answer to TIME.

`link.py` asks the server; who must know the time of the server beforehand is in the parent folder.
"""

import time

QUESTION = ("TIME",)
"""The command whose replies `ServerClock.read` takes."""

_US_PER_S = 1_000_000


class ServerClock:
    """Tells the earliest time that the clock of the server can show at a moment of this process."""

    def __init__(self) -> None:
        self._sampled_us = 0
        self._sampled_at_s = 0.0

    def read(self, reply: object) -> None:
        """Take a sample from a reply to `QUESTION`, at the time of its arrival; ignore anything else."""
        try:
            seconds, microseconds = (int(word) for word in reply)  # type: ignore[attr-defined]  # else TypeError
        except (TypeError, ValueError):
            return
        self._sampled_us, self._sampled_at_s = seconds * _US_PER_S + microseconds, time.monotonic()

    def earliest_us(self, at_s: float) -> int:
        """Return the earliest time of the server's clock, in µs of Unix time, at `at_s` on the monotonic clock.

        The server took its sample before the reply arrived, so that its clock is ahead of this by at most the way of
        the reply, as long as nobody sets it back. 0 before the first sample: then no moment is late enough.
        """
        if not self._sampled_us:
            return 0
        return self._sampled_us + int((at_s - self._sampled_at_s) * _US_PER_S)
