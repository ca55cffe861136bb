"""The set-up of a process that serves: descriptors, limits and signals.

The parts of each process are in `sidecar.py` and `portal_app.py`.
"""

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

# A thread that serialises metrics or parses a policy releases the interpreter lock to the event loop after this time.
_SWITCH_INTERVAL_S = 0.001
_OPEN_FILES_MAX = 65_536
_STANDARD = (0, 1, 2)

OTHER_FILES = 256
"""The descriptors beside those of checks: stores, the admin server, the gRPC listener, files."""

_log = logging.getLogger("authz")


def prepare() -> None:
    """Set up the process before it opens anything.

    A closed standard descriptor is opened, because otherwise a socket may get its number, and output of a library may
    then go to that socket.
    """
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is the one that is closed. It reads and writes nothing.
            os.open(os.devnull, os.O_RDWR)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def raise_open_files(needed: int) -> int:
    """Raise the soft limit on open files to `needed`, as far as the hard limit permits; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = _OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < needed:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, ceiling), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(needed, _OPEN_FILES_MAX) if soft == resource.RLIM_INFINITY else soft


def connections_within(connections_max: int, others: int) -> int:
    """Return how many connections the limit on open files permits beside `others`, at most `connections_max`.

    Logs a warning where that is fewer than `connections_max`.
    """
    needed = connections_max + others
    limit = raise_open_files(needed)
    if limit >= needed:
        return connections_max
    allowed = max(1, limit - others)
    numbers = {"open_files": limit, "needed": needed, "connections_max": connections_max, "connections": allowed}
    _log.warning("the limit on open files (ulimit -n) is too low", extra=numbers)
    return allowed


def add_signal_handlers(
    stopping: asyncio.Event, reload: Callable[[], None], switch_log_level: Callable[[], None]
) -> None:
    """Stop on SIGTERM and SIGINT, call `reload` on SIGHUP and `switch_log_level` on SIGUSR1."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGUSR1, switch_log_level)
