"""Visitors from addresses of their own: the portal counts attempts by address, and tests must not share one.

Programs bind a socket to such an address; a browser cannot, and connects through `relay`.
"""

import secrets
import socket
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Thread

_NAMED = b"\x05\x01\x00\x03"  # version, connect, reserved, and a host by its name, as browsers send an address too
_CONNECTED, _REFUSED = b"\x05\x00\x00\x01", b"\x05\x02\x00\x01"
_NO_ADDRESS = bytes(6)
_CHUNK_BYTES = 65_536


def random_address() -> str:
    """Return one of loopback's sixteen million addresses, which no throttle has met before."""
    return "127." + ".".join(str(1 + secrets.randbelow(250)) for _ in range(3))


@contextmanager
def relay(address: str) -> Iterator[str]:
    """Serve a SOCKS proxy (RFC 1928) that connects from an address; yield its URL."""
    with _Relay(("127.0.0.1", 0), partial(_Connection, address)) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"socks5://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Relay(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False  # browsers keep connections open


class _Connection(socketserver.BaseRequestHandler):
    """One connection, to this machine only, without authentication."""

    def __init__(
        self, address: str, request: socket.socket, client_address: object, server: socketserver.BaseServer
    ) -> None:
        self._address = address
        super().__init__(request, client_address, server)

    def handle(self) -> None:
        _, methods = self._receive(2)
        self._receive(methods)
        self.request.sendall(b"\x05\x00")
        head, length = self._receive(len(_NAMED)), self._receive(1)
        host, port = self._receive(length[0]).decode(), int.from_bytes(self._receive(2))
        if head != _NAMED or host != "127.0.0.1":
            self.request.sendall(_REFUSED + _NO_ADDRESS)  # browsers also look for updates
            return
        with socket.create_connection((host, port), source_address=(self._address, 0)) as far:
            self.request.sendall(_CONNECTED + _NO_ADDRESS)
            back = Thread(target=_copy, args=(far, self.request), daemon=True)
            back.start()
            _copy(self.request, far)
            back.join()

    def _receive(self, count: int) -> bytes:
        received: bytes = self.request.recv(count, socket.MSG_WAITALL)
        return received


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
