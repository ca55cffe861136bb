"""The machine under the bench, kept awake.

A processor that sleeps takes longer to wake than a check takes, most of all a virtual one: its host has to be asked,
and meanwhile the scheduler puts work elsewhere. That would be measured instead of the software.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LATENCY = Path("/dev/cpu_dma_latency")
"""Where Linux is told, for as long as it is held open, how many microseconds a processor may take to wake."""

AWAKE = "The processors were kept awake."
ASLEEP = "The processors may have slept, so lone calls cost more and figures scatter."
ASLEEP_AS_IT_IS_CLOSED = f"{ASLEEP} {LATENCY} could not be opened, which takes root."


@contextmanager
def awake(latency: Path = LATENCY) -> Iterator[str]:
    """Keep the processors awake where that is permitted, as cyclictest does; gives the note to the report."""
    try:
        held = latency.open("wb", buffering=0)
    except OSError:
        yield ASLEEP_AS_IT_IS_CLOSED
        return
    with held:
        held.write(bytes(4))  # none
        yield AWAKE
