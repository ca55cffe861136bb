"""Listening sockets from the settings' form of an address.

What is accepted on them is in the listeners.
"""

import socket
from contextlib import suppress
from pathlib import Path

_UNIX = "unix:"


def listening_socket(listen: str, *, shares_port: bool = False) -> socket.socket:
    """Bind a socket to `HOST:PORT` (port 0: any free port) or `unix:/PATH`; a stale unix socket is replaced.

    With `shares_port` several processes may listen on one TCP port. Raises `OSError`.
    """
    if listen.startswith(_UNIX):
        path = Path(listen.removeprefix(_UNIX))
        with suppress(FileNotFoundError):
            if path.is_socket():
                path.unlink()
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(path))
        return unix
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family, reuse_port=shares_port)


def port_of(listener: socket.socket) -> int:
    """Return the TCP port of a socket; 0 for a unix socket."""
    name = listener.getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0
