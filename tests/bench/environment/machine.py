"""The machine under the bench: which of its processors stay awake, and whose they are where single milliseconds count.

A processor that sleeps takes longer to wake than a check takes, most of all a virtual one: its host has to be asked.
One that is kept awake spins instead, and that may use up all of the host's processors that a virtual machine is given,
upon which the host takes them away for longer than anything measured here takes (`stolen_s`).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROCESSORS = Path("/sys/devices/system/cpu")
"""The Linux files that set, for each processor, how many microseconds it may take to wake."""

_LATENCY = "power/pm_qos_resume_latency_us"
_NONE, _ANY = "n/a", "0"  # Documentation/ABI/testing/sysfs-devices-power

NOTES = {
    "most": "All processors but one were kept awake, where no row says otherwise.",
    "all": "All processors were kept awake, where no row says otherwise.",
    "none": "Processors slept when there was nothing to do, where no row says otherwise.",
}
"""What the report says, by which processors are kept awake."""

NEVER_AWAKE = f"No processor could be kept awake, which takes root: {PROCESSORS}/cpu*/{_LATENCY} could not be written."

STAT = Path("/proc/stat")
"""Where Linux counts, in ticks and over all processors, how its time was spent; the eighth count is stolen time."""

CMDLINE = Path("/proc/cmdline")
"""What the kernel was started with."""

PACKING = "sched_vcpu_pack"
PACKED = (
    f"This kernel was started with {PACKING}, and may put what wakes behind busy work while a processor idles. "
    "Compare the CPU through Envoy, too."
)

AHEAD = (
    "At the fixed rate, the generator, what it asks and Redis were together on one processor, "
    "ahead of everything else (SCHED_RR)."
)
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
    """Return whether the kernel is configured to pack work onto few processors, as some virtual machines are."""
    try:
        words = dict(word.partition("=")[::2] for word in cmdline.read_text().split())
    except OSError:
        return False
    return words.get(PACKING, "0") != "0"


def processors(which: str = "all") -> list[int]:
    """List those that this process may run on: `all` of them, `most`, which is all but one, or `none`."""
    numbers = sorted(os.sched_getaffinity(0))
    return {"all": numbers, "most": numbers[1:], "none": []}[which]


@contextmanager
def awake(numbers: Iterable[int], root: Path = PROCESSORS) -> Iterator[bool]:
    """Keep processors awake, and let the others sleep; yields whether that was permitted."""
    every, kept, written = processors(), set(numbers), {}
    try:
        with suppress(OSError):
            for number in every:
                file = root / f"cpu{number}" / _LATENCY
                before = file.read_text()
                file.write_text(_NONE if number in kept else _ANY)
                written[file] = before
        yield len(written) == len(every)
    finally:
        for file, before in written.items():
            file.write_text(before)


@contextmanager
def apart(pids: Iterable[int], number: int) -> Iterator[None]:
    """Keep processes on one processor."""
    everywhere = os.sched_getaffinity(0)
    threads = _threads(pids)
    try:
        _pin(threads, {number})
        yield
    finally:
        _pin(threads, everywhere)


@contextmanager
def ahead(pids: Iterable[int]) -> Iterator[str]:
    """Give processes priority over all ordinary ones where that is permitted; yields the note for the report."""
    threads = _threads(pids)
    try:
        yield AHEAD if _schedule(threads, os.SCHED_RR, os.sched_param(1)) else AMONG_OTHERS
    finally:
        _schedule(threads, os.SCHED_OTHER, os.sched_param(0))


def _threads(pids: Iterable[int]) -> list[int]:
    return [int(entry.name) for pid in pids for entry in Path(f"/proc/{pid}/task").iterdir()]


def _pin(threads: Iterable[int], numbers: set[int]) -> None:
    for thread in threads:
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(thread, numbers)


def _schedule(threads: Iterable[int], policy: int, parameters: os.sched_param) -> bool:
    try:
        for thread in threads:
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setscheduler(thread, policy, parameters)
    except PermissionError:
        return False
    return True
