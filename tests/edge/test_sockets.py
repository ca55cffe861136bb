"""Listening sockets: both families, one owner, and unix sockets that the right users can reach."""

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from authz.core.errors import SettingsError
from authz.edge.sockets import SocketRights, listening_socket, port_of


def reached(family: socket.AddressFamily, host: str, port: int) -> bool:
    with socket.socket(family) as client:
        return client.connect_ex((host, port)) == 0


@pytest.mark.parametrize("listen", [":0", "[::]:0"])
def test_an_address_without_a_host_means_both_families(listen: str) -> None:
    with listening_socket(listen) as listener:
        assert reached(socket.AF_INET, "127.0.0.1", port_of(listener))
        assert reached(socket.AF_INET6, "::1", port_of(listener))


@pytest.mark.parametrize("listen", [":0", "[::]:0"])
def test_an_address_without_a_host_means_ipv4_where_the_kernel_has_no_ipv6(
    monkeypatch: pytest.MonkeyPatch, listen: str
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listening_socket(listen) as listener:
        assert reached(socket.AF_INET, "127.0.0.1", port_of(listener))


def test_an_address_of_one_family_means_that_one() -> None:
    with listening_socket("127.0.0.1:0") as listener:
        assert reached(socket.AF_INET, "127.0.0.1", port_of(listener))
        assert not reached(socket.AF_INET6, "::1", port_of(listener))


def test_a_name_of_ipv6_only_is_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def on_a_host_without_ipv4(host: str | None, *more: Any, **named: Any) -> Any:  # noqa: ANN401 -- the system's
        return resolve("::1" if host == "localhost" else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", on_a_host_without_ipv4)
    with listening_socket("localhost:0") as listener:
        assert reached(socket.AF_INET6, "::1", port_of(listener))


@pytest.mark.parametrize("first_shares", [False, True])
def test_a_port_is_shared_only_if_both_processes_ask_for_it(*, first_shares: bool) -> None:
    with listening_socket("127.0.0.1:0", shares_port=first_shares) as listener:
        address = f"127.0.0.1:{port_of(listener)}"
        with pytest.raises(SettingsError, match=f"cannot listen on {address}: Address already in use"):
            listening_socket(address)
        if first_shares:
            listening_socket(address, shares_port=True).close()


@pytest.mark.parametrize(
    "listen", ["192.0.2.1:0", "no.such.host.invalid:1", "unix:/no/such/folder/socket", f"unix:/{'x' * 108}"]
)
def test_an_address_that_cannot_be_used_is_one_line(listen: str) -> None:
    with pytest.raises(SettingsError, match=f"cannot listen on {listen}: ") as raised:
        listening_socket(listen)
    assert "\n" not in str(raised.value)


def test_a_socket_file_is_taken_from_nobody_who_listens(tmp_path: Path) -> None:
    listen = f"unix:{tmp_path / 'socket'}"
    with listening_socket(listen) as listener:
        listener.listen()
        with pytest.raises(SettingsError, match="already in use"):
            listening_socket(listen)
    listening_socket(listen).close()  # nobody listens any more


def test_a_file_that_is_no_socket_is_never_deleted(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("kept")
    with pytest.raises(SettingsError, match="already in use"):
        listening_socket(f"unix:{path}")
    assert path.read_text() == "kept"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_unix_socket_has_the_mode_and_the_group_of_the_settings(tmp_path: Path, mode: int) -> None:
    path, group = tmp_path / "socket", [*os.getgroups(), os.getgid()][0]
    with listening_socket(f"unix:{path}", SocketRights(mode, str(group))):
        found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (mode, group)


def test_a_group_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot listen on"):
        listening_socket(f"unix:{tmp_path / 'socket'}", SocketRights(0o660, "no-such-group"))
