"""TLS of the admin server's connections: a wrapped socket that behaves as a plain one without blocking.

The certificate and its reload are `edge/check/tls.py`; the connections are `connection.py`.
"""

import socket
import ssl
from contextlib import suppress


class TlsSocket:
    """The server's side of TLS on an accepted, non-blocking socket. The first `recv` or `send` makes the handshake.

    `recv` and `send` raise `BlockingIOError` while TLS waits for the client, and `OSError` if the handshake fails.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def fileno(self) -> int:
        """Return the descriptor that a selector waits for."""
        return self._sock.fileno()

    @property
    def family(self) -> socket.AddressFamily:
        """The family of addresses of the socket."""
        return self._sock.family

    def getpeername(self) -> object:
        """Return the address of the client, or an empty text for a unix socket."""
        return self._sock.getpeername()

    def recv(self, count: int) -> bytes:
        """Return what has arrived, at most `count` bytes and the rest of a record (16 KiB)."""
        with _without_waiting():
            data = self._sock.recv(count)
        # No event announces bytes that are decrypted already.
        while data and (rest := self._sock.pending()):
            data += self._sock.recv(rest)
        return data

    def send(self, data: memoryview) -> int:
        """Send a part of `data` and return its length."""
        with _without_waiting():
            return self._sock.send(data)

    def shutdown(self, how: int) -> None:
        """End the sending direction; the client sees the end of TLS first."""
        with suppress(OSError, ValueError):
            self._sock.setblocking(False)
            self._sock.unwrap()
        with suppress(OSError):
            self._sock.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class _without_waiting:  # noqa: N801 -- reads as a statement
    """Turn TLS' own word for "not now" into that of a plain socket."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
            raise BlockingIOError from error
