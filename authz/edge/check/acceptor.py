"""The acceptor of the check listener: it accepts at a bounded rate, and costs little for connections that are silent.

Linux keeps a silent TCP connection to itself for a minute, as long as it has room. An accepted socket waits without a
transport until its first byte arrives. What a connection does then is in `peer.py`, the number of connections in
`listener.py`.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from authz.edge.check.rates import TokenBucket
from authz.edge.sockets import BACKLOG, hold_silent

_ACCEPTS_A_TURN = 2
_ACCEPTS_PER_S, _OPENINGS_PER_S = 2_000, 300
_BURST = 128
_PAUSE_S = 0.005
_NO_DESCRIPTORS_PAUSE_S = 0.1
_SILENCE_S_MAX = 5.0
_EXPIRED_A_TURN = 2
_READY_MAX = 512
_REQUEST_BYTES_MIN = 192  # more than the greeting of HTTP/2 has
_HANDSHAKE_S_MAX = 5.0
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))

_log = logging.getLogger("authz.check")


class Acceptor:
    """Accepts connections on a bound socket, and opens those that sent something as protocols of `factory`.

    `has_room` is called before each connection is kept; it may close another one, and returns False to refuse this one.
    `tls` returns the TLS context of a new connection.
    """

    def __init__(
        self,
        listener: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        has_room: Callable[[], bool],
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._listener = listener
        self._factory = factory
        self._has_room = has_room
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._silent: dict[socket.socket, float] = {}  # with the time when each was accepted, the oldest first
        self._ready: deque[socket.socket] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._accepts = TokenBucket(_ACCEPTS_PER_S, _BURST)
        self._openings = TokenBucket(_OPENINGS_PER_S, _BURST)
        self._is_paused = False
        self._is_opening = False
        self._is_closed = False
        self.silenced = 0  # connections closed without their first byte
        self.refused = 0  # connections for which there was no descriptor
        self.unopened = 0  # connections closed because too many others waited to be opened
        self._reserve: int | None = os.open(os.devnull, os.O_RDONLY)

    @property
    def count(self) -> int:
        """The number of accepted connections without a protocol."""
        return len(self._silent) + len(self._ready) + len(self._opening)

    def start(self) -> None:
        """Accept connections."""
        self._listener.setblocking(False)
        if self._listener.family != socket.AF_UNIX:
            _set_options(self._listener)
        self._listener.listen(BACKLOG)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Close the listener and the silent connections; open the others at once."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self._release_reserve()
        for sock in list(self._silent):
            self._close_silent(sock)
        while self._ready:
            self._open(self._ready.popleft())

    async def opened(self) -> None:
        """Wait for the connections that are being opened."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def evict_silent(self) -> bool:
        """Close the oldest silent connection; return whether there was one."""
        if not self._silent:
            return False
        self._close_silent(next(iter(self._silent)))
        return True

    def expire(self) -> None:
        """Close the connections that have been silent for too long, a few at a time: checks come in between."""
        silent_since_s = self._loop.time() - _SILENCE_S_MAX
        for sock, since_s in list(islice(self._silent.items(), _EXPIRED_A_TURN)):
            if since_s > silent_since_s:
                return
            self.silenced += 1
            self._close_silent(sock)
        if self._silent and not self._is_closed:
            self._loop.call_later(_PAUSE_S, self.expire)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):  # the checks of other connections come in between
            if not self._accepts.take(self._loop.time()):
                self._pause(_PAUSE_S)
                return
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._refuse_one(error)
                return
            if self._has_room():
                self._keep(sock)
            else:
                sock.close()

    def _keep(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._silent[sock] = self._loop.time()
        self._loop.add_reader(sock.fileno(), self._arrived, sock)

    def _arrived(self, sock: socket.socket) -> None:
        """Open a connection whose first bytes have arrived; close one that its peer has closed."""
        try:
            sent = len(sock.recv(_REQUEST_BYTES_MIN, socket.MSG_PEEK))
        except BlockingIOError:
            return
        except OSError:
            sent = 0
        if not sent:
            self._close_silent(sock)
            return
        self._loop.remove_reader(sock.fileno())
        del self._silent[sock]
        if sent < _REQUEST_BYTES_MIN:  # last, as Envoy connects when it has a request
            self._ready.appendleft(sock)
        else:  # the newest first, as its client still waits for an answer
            self._ready.append(sock)
        if len(self._ready) > _READY_MAX:
            self._ready.popleft().close()
            self.unopened += 1
        if not self._is_opening:
            self._is_opening = True
            self._open_next()

    def _open_next(self) -> None:
        """Open one connection, and the next in another turn of the loop: the checks of others come in between."""
        self._is_opening = bool(self._ready)
        if not self._is_opening:
            return
        if self._openings.take(self._loop.time()):
            self._open(self._ready.pop())
            self._loop.call_soon(self._open_next)
        else:
            self._loop.call_later(_PAUSE_S, self._open_next)

    def _open(self, sock: socket.socket) -> None:
        task = self._loop.create_task(self._connect(sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, sock: socket.socket) -> None:
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(self._factory, sock)
            else:
                await self._loop.connect_accepted_socket(
                    self._factory, sock, ssl=self._tls(), ssl_handshake_timeout=_HANDSHAKE_S_MAX
                )
        except OSError:
            sock.close()

    def _refuse_one(self, error: OSError) -> None:
        """Refuse a connection for which there is no descriptor, by the one that is reserved for this."""
        self.refused += 1
        _log.error("a connection cannot be accepted", extra={"error": str(error)})
        self._release_reserve()
        with suppress(OSError):
            sock, _ = self._listener.accept()
            sock.close()
        self.evict_silent()
        with suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY)
        self._pause(_NO_DESCRIPTORS_PAUSE_S)

    def _release_reserve(self) -> None:
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            os.close(reserve)

    def _pause(self, seconds: float) -> None:
        if not self._is_paused and not self._is_closed:
            self._is_paused = True
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._is_paused = False
        if not self._is_closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _close_silent(self, sock: socket.socket) -> None:
        del self._silent[sock]
        self._loop.remove_reader(sock.fileno())
        sock.close()


def _set_options(listener: socket.socket) -> None:
    """Set the options of a TCP listener, which accepted sockets inherit."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        listener.setsockopt(socket.IPPROTO_TCP, option, value)
    hold_silent(listener)
