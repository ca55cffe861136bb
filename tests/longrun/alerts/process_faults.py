"""The faults of single processes in the drill: a busy Redis, and a sidecar's files, log and connections.

Each begins, yields while it lasts, and ends. Faults of stores and of callers are in `faults.py`.
"""

import resource
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import redis
from longrun.alerts.repeated import repeated
from support.access_log_entries import message
from support.clients.h2_peers import HELLO, block, data, framed, headers

from authz.demo.servers import Server
from authz.edge.access_log import METHOD, SERVICE

CONNECTIONS_MAX = 64
"""How many connections the attacked sidecar permits on its check listener."""

_MORE, _SPARE_FILES = 8, 2
_READ_S = 0.05
_BUSY = "local x = 0; for i = 1, tonumber(ARGV[1]) do x = x + i end; return 1"
_BUSY_S, _MEASURED = 0.03, 5


def redis_busy(url: str) -> Iterator[None]:
    """Occupy Redis with scripts of 30 ms; it has no clock that moves within a script, so they count."""
    with redis.Redis.from_url(url) as client:
        rounds, took_s = 100_000, []
        for _ in range(_MEASURED):
            started_s = time.monotonic()
            client.eval(_BUSY, 0, rounds)
            took_s.append(time.monotonic() - started_s)
        needed = round(rounds * _BUSY_S / min(took_s))  # the others waited for a processor
        with repeated(lambda: client.eval(_BUSY, 0, needed), pause_s=0.001):
            yield


def connections(port: int) -> Iterator[None]:
    """Keep more connections open than the check listener permits, each without a request."""
    opened: deque[socket.socket] = deque()

    def open_one() -> None:
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=2))
        opened[-1].sendall(HELLO)
        if len(opened) > CONNECTIONS_MAX + _MORE:
            opened.popleft().close()

    with repeated(open_one):
        yield
    for one in opened:
        one.close()


def reports(port: int) -> Iterator[None]:
    """Break calls of Envoy's access log after their first message."""
    call = HELLO + headers(1, block(_path=f"/{SERVICE}/{METHOD}")) + data(1, framed(message()), flags=0)

    def break_one() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as envoy:
            envoy.sendall(call)
            time.sleep(_READ_S)

    with repeated(break_one, pause_s=0.2):
        yield


def files(server: Server) -> Iterator[None]:
    """Limit a process to few more files than it has open."""
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    count = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (count + _SPARE_FILES, before[1]))
    yield
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)


def log_full(server: Server) -> Iterator[None]:
    """Let a process write log lines, whose output is a full disk: each signal is a line."""
    with repeated(lambda: server.signal(signal.SIGUSR1), pause_s=0.2):
        yield
