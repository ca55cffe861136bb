"""A small HTTP/1.1 server on a thread of its own, with a bound on everything that a client can take.

It shares the interpreter lock with the event loop of the checks, so it also has a bound on its CPU time. The endpoints
are in `server.py`, requests and responses in `messages.py`.
"""

import logging
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from authz.edge.admin.connection import HttpConnection, HttpLimits, Serve, State
from authz.edge.admin.pace import CpuPace
from authz.edge.admin.tls import TlsSocket
from authz.edge.sockets import BACKLOG, hold_silent

_ACCEPTS_MAX = 16
_TICK_S = 0.25
_ACCEPT_PAUSE_S = 0.1  # after an accept that failed for want of descriptors

_log = logging.getLogger("authz.admin")


class HttpServer:
    """Serves the requests on `listener` by `serve`, on the server's thread, until `stop`.

    With `tls`, which returns the context for a new connection, clients need TLS. When all connections are in use, a new
    one replaces the oldest of those that are idle or have sent no request.
    """

    def __init__(
        self,
        listener: socket.socket,
        serve: Serve,
        limits: HttpLimits | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._listener = listener
        self._serve = serve
        self._limits = limits or HttpLimits()
        self._tls = tls
        self._selector = selectors.DefaultSelector()
        self._connections: set[HttpConnection] = set()
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._waker, self._woken = socket.socketpair()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="admin", daemon=True)
        self.pace: CpuPace
        for sock in (listener, self._waker, self._woken):
            sock.setblocking(False)

    def start(self) -> None:
        """Accept connections."""
        hold_silent(self._listener)
        self._listener.listen(BACKLOG)
        self._thread.start()

    def stop(self) -> None:
        """Close the listener and all connections; blocks until the thread has ended."""
        self._is_stopping = True
        if self._thread.ident is not None:
            self._wake()
            self._thread.join()
        else:
            self._close()

    def call(self, work: Callable[[], None]) -> None:
        """Run `work` on the server's thread soon; from any thread."""
        self._calls.append(work)
        self._wake()

    def call_at(self, when_s: float, work: Callable[[], None]) -> None:
        """Run `work` at a monotonic time; on the server's thread only."""
        self._timers.append((when_s, work))

    def _run(self) -> None:
        self.pace = CpuPace(self._limits.cpu_share, self._limits.cpu_burst_s)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain_wakes)
        expire_s = 0.0
        while not self._is_stopping:
            for key, _ in self._selector.select(self._timeout_s()):
                self._handle(key.data)
                self.pace.wait()
            self._run_calls()
            if (now_s := time.monotonic()) >= expire_s:
                expire_s = now_s + _TICK_S
                self._expire(now_s)
        self._close()

    def _handle(self, target: object) -> None:
        if not isinstance(target, HttpConnection):
            target()  # type: ignore[operator]  # the listener's and the waker's methods
        elif not target.is_closed:  # by an earlier event
            self.drive(target, target.read if target.wants_read else target.write)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_MAX):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # no descriptors: one of ours is released, and the loop must not spin
                self._evict()
                self._selector.unregister(self._listener)
                self.call_at(time.monotonic() + _ACCEPT_PAUSE_S, self._resume_accepting)
                return
            if len(self._connections) >= self._limits.connections_max:
                self._evict()
            sock.setblocking(False)
            try:
                wrapped = sock if self._tls is None else TlsSocket(sock, self._tls())
            except OSError:  # the client has left already
                sock.close()
                continue
            connection = HttpConnection(wrapped, self._limits, self._serve)
            self._connections.add(connection)
            # The request may have arrived already, and a later connection may replace this one.
            self.drive(connection, connection.read)
            self.pace.wait()

    def _resume_accepting(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def drive(self, connection: HttpConnection, action: Callable[[], object]) -> None:
        """Run `action` on a connection, then register the connection for what it waits for."""
        if connection.is_closed:
            return
        try:
            action()
        except Exception:  # noqa: BLE001 -- one connection must not stop the server
            _log.exception("an admin request failed")
            connection.close()
        if connection.is_closed:
            self._close_connection(connection)
            return
        if connection.has_next:  # one request of each connection a round
            self._calls.append(lambda: self._advance(connection))
        is_watched = connection.sock in self._selector.get_map()
        if connection.state is State.SERVING:  # nothing to do until the response, or the deadline
            if is_watched:
                self._selector.unregister(connection.sock)
            return
        events = selectors.EVENT_READ if connection.wants_read else selectors.EVENT_WRITE
        register = self._selector.modify if is_watched else self._selector.register
        register(connection.sock, events, connection)

    def _advance(self, connection: HttpConnection) -> None:
        if connection.has_next and connection.advance():
            self.drive(connection, bool)

    def _evict(self) -> None:
        if self._connections:
            connection = min(self._connections, key=lambda each: (each.state, each.since_s))
            self._close_connection(connection)

    def _expire(self, now_s: float) -> None:
        for connection in [each for each in self._connections if each.deadline_s < now_s]:
            self._close_connection(connection)

    def _close_connection(self, connection: HttpConnection) -> None:
        connection.close()
        if connection.sock in self._selector.get_map():
            self._selector.unregister(connection.sock)
        connection.sock.close()
        self._connections.discard(connection)

    def _timeout_s(self) -> float:
        if self._calls:
            return 0
        next_s = min((when_s for when_s, _ in self._timers), default=float("inf"))
        return max(0.0, min(_TICK_S if self._connections else 3_600.0, next_s - time.monotonic()))

    def _run_calls(self) -> None:
        now_s = time.monotonic()
        due = [work for when_s, work in self._timers if when_s <= now_s]
        self._timers = [timer for timer in self._timers if timer[0] > now_s]
        due += [self._calls.popleft() for _ in range(len(self._calls))]
        for work in due:
            work()
            self.pace.wait()

    def _wake(self) -> None:
        with suppress(OSError):  # full: the thread is about to wake up
            self._waker.send(b"\0")

    def _drain_wakes(self) -> None:
        with suppress(OSError):
            self._woken.recv(4_096)

    def _close(self) -> None:
        for connection in list(self._connections):
            self._close_connection(connection)
        self._selector.close()
        for sock in (self._listener, self._waker, self._woken):
            sock.close()
