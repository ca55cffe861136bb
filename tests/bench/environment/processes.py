"""What processes cost, read from Linux: CPU time to the nanosecond, and resident memory."""

import time
from pathlib import Path

_KIB = 1024
_CPU_OF_PROCESS = 2  # CPUCLOCK_SCHED, beside the inverted process id: how clock_getcpuclockid(3) builds a clock's id


def cpu_s(pid: int) -> float:
    """Read the CPU time that all threads of a process have used so far."""
    return time.clock_gettime(~pid << 3 | _CPU_OF_PROCESS)


def rss_mib(pid: int) -> float:
    """Read how much memory a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) / _KIB
