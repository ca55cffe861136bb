"""The HTTP server of the portal: uvicorn without its signal handlers, and with a bound on connections.

The application is in `app.py`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MAX = 1_024
_REQUEST_S_MAX = 30.0


class QuietServer(uvicorn.Server):
    """A uvicorn server without signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers (uvicorn.Server)."""
        yield


class BoundedHttp(H11Protocol):
    """One connection of the portal's server.

    A connection that does not complete the head of a request within 30 s is closed, and one without a request in
    progress also when it is the oldest of too many. Between requests `timeout_keep_alive` applies.
    """

    connections_max: ClassVar[int] = CONNECTIONS_MAX
    request_s_max: ClassVar[float] = _REQUEST_S_MAX
    _idle: ClassVar[dict["BoundedHttp", None]] = {}  # without a request in progress, the oldest first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as asyncio calls it
        """Register the connection (asyncio.Protocol)."""
        super().connection_made(transport)
        self._idle[self] = None
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(self.request_s_max, self._expire)
        if len(self.connections) > self.connections_max:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Track whether a request is in progress (asyncio.Protocol)."""
        super().data_received(data)
        self._track()
        if self in self._idle and self._timer is None:
            self._timer = self.loop.call_later(self.request_s_max, self._expire)

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
