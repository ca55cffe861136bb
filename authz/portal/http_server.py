"""The HTTP server of the portal: uvicorn without its signal handlers, and with a bound on connections.

The application is in `app.py`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import h11
import uvicorn
from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from authz.portal.middleware.response_headers import put

CONNECTIONS_MAX = 1_024
HEAD_BYTES_MAX = 98_304  # more than Envoy lets through with its own headers, of which the client's are 60 KiB
_REQUEST_S_MAX = 30.0
_LINGER_S = 1.0
_LINGER_BYTES_MAX = 1_048_576


class QuietServer(uvicorn.Server):
    """A uvicorn server without signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers (uvicorn.Server)."""
        yield


class _LingeringTransport:
    """A transport whose `close` ends our side only, so that the peer receives the last response whole.

    A socket that is closed with unread bytes resets the connection, and a client that still sends loses the response.
    So the protocol receives, and ignores, what still comes for a second and a mebibyte at most.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._ignored_bytes = 0
        self.is_lingering = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- the rest of the transport, as it is
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Tell whether nothing can be written any more (asyncio.Transport)."""
        return self.is_lingering or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send, unless our side has ended (asyncio.Transport)."""
        if not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """End our side of the connection once what was written is sent (asyncio.Transport)."""
        if self.is_closing():
            return
        self.is_lingering = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(_LINGER_S, self._end)

    def ignore(self, data: bytes) -> None:
        """Count what came after our side ended."""
        self._ignored_bytes += len(data)
        if self._ignored_bytes > _LINGER_BYTES_MAX:
            self._transport.abort()

    def _end(self) -> None:
        if self._transport.get_write_buffer_size():
            self._loop.call_later(_LINGER_S, self._end)
        else:
            self._transport.abort()


class BoundedHttp(H11Protocol):
    """One connection of the portal's server.

    A connection that does not complete the head of a request within 30 s is closed, and one without a request in
    progress also when it is the oldest of too many. Between requests `timeout_keep_alive` applies. After the last
    response it lingers.
    """

    connections_max: ClassVar[int] = CONNECTIONS_MAX
    request_s_max: ClassVar[float] = _REQUEST_S_MAX
    _idle: ClassVar[dict["BoundedHttp", None]] = {}  # without a request in progress, the oldest first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as asyncio calls it
        """Register the connection (asyncio.Protocol)."""
        self._lingering = _LingeringTransport(transport, self.loop)
        super().connection_made(self._lingering)  # type: ignore[arg-type]  # it has all that a transport has
        self._idle[self] = None
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(self.request_s_max, self._expire)
        if len(self.connections) > self.connections_max:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Track whether a request is in progress (asyncio.Protocol)."""
        if self._lingering.is_lingering:
            self._lingering.ignore(data)
            return
        super().data_received(data)
        self._track()
        if self in self._idle and self._timer is None:
            self._timer = self.loop.call_later(self.request_s_max, self._expire)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- it would say which library read the request
        """Refuse what cannot be parsed, in the format of the portal (H11Protocol)."""
        if self.cycle is not None and not self.cycle.response_complete:
            if not self.cycle.more_body:  # its request is whole, and only what follows is wrong
                self.cycle.keep_alive = False
                self.flow.pause_reading()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            response = JSONResponse({"error": "bad request"}, status_code=400, headers={"connection": "close"})
            put(response.headers, is_https=False)
            head = h11.Response(status_code=400, headers=response.raw_headers, reason=b"Bad Request")
            parts = (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage())
            self.transport.write(b"".join(self.conn.send(part) or b"" for part in parts))
        self.transport.close()

    def on_response_complete(self) -> None:
        """Track the end of a request (H11Protocol)."""
        super().on_response_complete()
        self._track()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection (asyncio.Protocol)."""
        self._idle.pop(self, None)
        self._stop_timer()
        super().connection_lost(exc)

    def _track(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._idle.pop(self, None)
            self._stop_timer()
        elif not self.transport.is_closing():
            self._idle[self] = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        if self in self._idle:
            self.transport.abort()
