"""The machine under the bench, kept awake and, where single milliseconds count, kept to the bench's own processes.

A processor that sleeps takes longer to wake than a check takes, most of all a virtual one: its host has to be asked,
and meanwhile the scheduler puts work elsewhere. And a process of the machine's own takes the processor for several
checks' time whenever it likes. Both would be measured instead of the software.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LATENCY = Path("/dev/cpu_dma_latency")
"""Where Linux is told, for as long as it is held open, how many microseconds a processor may take to wake."""

STAT = Path("/proc/stat")
"""Where Linux counts, in ticks and over all processors, how its time was spent; the eighth count is stolen time."""

AWAKE = "The processors were kept awake."
ASLEEP = "The processors may have slept, so lone calls cost more and figures scatter."
ASLEEP_AS_IT_IS_CLOSED = f"{ASLEEP} {LATENCY} could not be opened, which takes root."

CMDLINE = Path("/proc/cmdline")
"""What the kernel was started with."""

PACKING = "sched_vcpu_pack"
PACKED = (
    f"This kernel was started with {PACKING}, and may put what wakes behind busy work while a processor idles. "
    "Compare the CPU through Envoy, too."
)

AHEAD = "At the fixed rate, the generator, what it asks and Redis ran ahead of everything else (SCHED_RR)."
AMONG_OTHERS = "At the fixed rate, whatever else the machine did came in between: real-time priority takes root."


def stolen_s(stat: Path = STAT) -> float:
    """Read for how long so far there was work to do, and the host ran something else; over all processors, in seconds.

    Hosts that give a virtual machine a share of their processors take them away for a tenth of a second at a time.
    """
    try:
        return int(stat.read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):  # where nobody tells, nothing was stolen
        return 0.0


def packs(cmdline: Path = CMDLINE) -> bool:
    """Tell whether the kernel was told to pack work onto few processors, as some of virtual machines are."""
    try:
        words = dict(word.partition("=")[::2] for word in cmdline.read_text().split())
    except OSError:
        return False
    return words.get(PACKING, "0") != "0"


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


@contextmanager
def ahead(pids: Iterable[int]) -> Iterator[str]:
    """Let processes run ahead of all ordinary ones where that is permitted; gives the note to the report."""
    threads = [int(entry.name) for pid in pids for entry in Path(f"/proc/{pid}/task").iterdir()]
    try:
        yield AHEAD if _schedule(threads, os.SCHED_RR, os.sched_param(1)) else AMONG_OTHERS
    finally:
        _schedule(threads, os.SCHED_OTHER, os.sched_param(0))


def _schedule(threads: Iterable[int], policy: int, parameters: os.sched_param) -> bool:
    try:
        for thread in threads:
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setscheduler(thread, policy, parameters)
    except PermissionError:
        return False
    return True
