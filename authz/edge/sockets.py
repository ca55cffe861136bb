"""Listening sockets from the settings' form of an address.

What is accepted on them is in the listeners.
"""

import errno
import os
import shutil
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from authz.core.errors import SettingsError

BACKLOG = 4_096
"""How many connections wait in the kernel, silent ones included; net.core.somaxconn limits it."""

_UNIX = "unix:"
_ANY = {"", "::"}
_PROBE_S = 0.2
_SILENCE_IN_KERNEL_S = 60
_SYNCOOKIES = Path("/proc/sys/net/ipv4/tcp_syncookies")


@dataclass(frozen=True, slots=True)
class SocketRights:
    """Who may connect to a unix socket: its mode, and its group by name or number; empty for that of the process."""

    mode: int = 0o660
    group: str = ""

    def apply(self, path: Path) -> None:
        """Set the rights of a socket; raises `OSError`, and `LookupError` for an unknown group."""
        if self.group:
            shutil.chown(path, group=int(self.group) if self.group.isdigit() else self.group)
        path.chmod(self.mode)


def listening_socket(listen: str, rights: SocketRights = SocketRights(), *, shares_port: bool = False) -> socket.socket:
    """Bind a socket to `HOST:PORT` (port 0: any free port) or `unix:/PATH`; raises `SettingsError`.

    The hosts `[::]` and none mean every address of both families. A unix socket on which nobody listens is replaced.
    With `shares_port` several processes may listen on one TCP port, and a unix socket is replaced in any case.
    """
    try:
        if listen.startswith(_UNIX):
            return _unix_socket(unix_path(listen), rights, replaces=shares_port)
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        if host in _ANY and socket.has_dualstack_ipv6():
            return socket.create_server(
                ("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, reuse_port=shares_port
            )
        family, address = _resolved(host)
        return socket.create_server((address, int(port)), family=family, reuse_port=shares_port)
    except (OSError, LookupError, ValueError, OverflowError) as error:
        raise cannot_listen(listen, error) from error


def hold_silent(listener: socket.socket) -> None:
    """Let Linux keep silent connections to a TCP listener to itself for a minute, as long as it has room.

    Without SYN cookies they would keep others out there, so they are accepted then.
    """
    with suppress(OSError, ValueError):
        if listener.family != socket.AF_UNIX and int(_SYNCOOKIES.read_text()):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _SILENCE_IN_KERNEL_S)


def _resolved(host: str) -> tuple[socket.AddressFamily, str]:
    """Return the first address of a host, of IPv4 if it has one."""
    if host in _ANY:  # on a kernel without IPv6
        return socket.AF_INET, "0.0.0.0"  # noqa: S104 -- as the setting says
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    family, *_, where = min(found, key=lambda info: info[0] is not socket.AF_INET)
    return family, str(where[0])


def clear_stale(path: Path) -> None:
    """Delete a unix socket on which nobody listens; raises `OSError` if somebody does."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return  # binding will fail
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_S)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def unix_path(listen: str) -> Path:
    """Return the path of a `unix:` address."""
    return Path(listen.removeprefix(_UNIX))


def cannot_listen(listen: str, error: BaseException) -> SettingsError:
    """Describe in one line why an address cannot be used."""
    number = error.errno if isinstance(error, OSError) else None
    # Python appends the address; names that are not resolved have numbers of their own.
    why = os.strerror(number) if number is not None and number > 0 else error
    return SettingsError(f"cannot listen on {listen}: {why}")


def port_of(listener: socket.socket) -> int:
    """Return the TCP port of a socket; 0 for a unix socket."""
    name = listener.getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0


def _unix_socket(path: Path, rights: SocketRights, *, replaces: bool) -> socket.socket:
    if replaces:
        with suppress(FileNotFoundError):
            if path.is_socket():
                path.unlink()
    else:
        clear_stale(path)
    unix = socket.socket(socket.AF_UNIX)
    try:
        before = os.umask(0o177)  # until the rights are set, only this user may connect
        try:
            unix.bind(str(path))
        finally:
            os.umask(before)
        rights.apply(path)
    except BaseException:
        unix.close()
        raise
    return unix
