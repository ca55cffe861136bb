"""One connection of the admin server: received bytes, one request at a time, one response at a time.

How many connections there are and which one is closed first is in `http_server.py`.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import TypeAlias

from authz.edge.admin.messages import HEAD_BYTES_MAX, BadRequest, HttpRequest, HttpResponse, serialised, take_request
from authz.edge.admin.tls import TlsSocket

_LINGER_S = 1.0
_LINGER_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of the server.

    `head_s` is for a request from its connection or its first byte on, `idle_s` for the time between requests, and
    `response_s` from a request until the client has read the response. `cpu_share` of one CPU is permitted, after
    `cpu_burst_s` seconds at once.
    """

    connections_max: int = 64
    requests_max: int = 1_000
    head_s: float = 5.0
    idle_s: float = 75.0
    response_s: float = 10.0
    cpu_share: float = 0.05
    cpu_burst_s: float = 0.1


class State(IntEnum):
    """The state of a connection, in the order in which connections are closed when there are too many."""

    LINGERING = 0  # the last response is sent; the client may still send
    NEW = 1  # no complete request yet
    IDLE = 2  # between requests
    WRITING = 3  # the client has not read all of a response
    SERVING = 4  # a request without a response


class HttpConnection:
    """A connection with its deadline. `serve` is called with each request; the owner calls `respond` once for it."""

    def __init__(self, sock: socket.socket | TlsSocket, limits: HttpLimits, serve: "Serve") -> None:
        self.sock = sock
        self.state = State.NEW
        self.since_s = time.monotonic()
        self.deadline_s = self.since_s + limits.head_s
        self.is_closed = False
        self._limits = limits
        self._serve = serve
        self._received = bytearray()
        self._unsent = memoryview(b"")
        self._served = 0
        self._request: HttpRequest | None = None
        self._closes = False
        self._lingered_bytes = 0

    @property
    def wants_read(self) -> bool:
        """Whether received bytes are of use now."""
        return self.state in {State.LINGERING, State.NEW, State.IDLE}

    @property
    def has_next(self) -> bool:
        """Whether a further request, or a part of it, was sent behind the last one."""
        return self.state is State.IDLE and bool(self._received)

    def read(self) -> None:
        """Read what arrived, and start the request that is complete."""
        try:
            data = self.sock.recv(HEAD_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif self.state is State.LINGERING:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > _LINGER_BYTES_MAX:
                self.close()
        else:
            if self.state is State.IDLE and not self._received:
                self.deadline_s = time.monotonic() + self._limits.head_s
            self._received += data
            self.advance()

    def advance(self) -> bool:
        """Start the next request if it has arrived and the connection is free; return whether it was started."""
        if self.is_closed or self.state not in {State.NEW, State.IDLE}:
            return False
        try:
            self._request = take_request(self._received)
        except BadRequest as bad:
            self._begin(closes=True)
            self.respond(HttpResponse(bad.status, f"{bad.status.phrase}\n".encode()))
            return True
        if self._request is None:
            return False
        self._begin(closes=not self._request.keeps_alive or self._served + 1 >= self._limits.requests_max)
        self._serve(self, self._request)
        return True

    def respond(self, response: HttpResponse) -> None:
        """Send the response to the request that was served last; ignored where the connection is closed."""
        if self.is_closed:
            return
        is_head = self._request is not None and self._request.method == "HEAD"
        self._unsent = memoryview(serialised(response, is_head=is_head, closes=self._closes))
        self.state = State.WRITING
        self.write()

    def serves(self, request: HttpRequest) -> bool:
        """Tell whether this request still waits for its response."""
        return not self.is_closed and self._request is request

    def write(self) -> None:
        """Send as much of the response as the socket accepts."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._end()

    def refuse_unavailable(self) -> None:
        """Respond that the server cannot respond now."""
        self.respond(HttpResponse(HTTPStatus.SERVICE_UNAVAILABLE, b"unavailable\n"))

    def close(self) -> None:
        """Mark the connection as closed; the owner closes the socket."""
        self.is_closed = True

    def _begin(self, *, closes: bool) -> None:
        self.state = State.SERVING
        self.since_s = time.monotonic()
        self.deadline_s = self.since_s + self._limits.response_s
        self._closes = closes
        self._served += 1

    def _end(self) -> None:
        self._request = None
        self.since_s = time.monotonic()
        if not self._closes:
            self.state = State.IDLE
            self.deadline_s = self.since_s + (self._limits.head_s if self._received else self._limits.idle_s)
            return
        # A close with unread data would be a reset, which may destroy the response on its way.
        self.state = State.LINGERING
        self.deadline_s = self.since_s + _LINGER_S
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()


Serve: TypeAlias = Callable[[HttpConnection, HttpRequest], None]
"""Responds to a request of a connection, at once or later."""
