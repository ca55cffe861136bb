"""The acceptor: silent connections wait in the kernel, those with a request come first, and the loop is not held."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from authz.edge import sockets
from authz.edge.check import acceptor
from authz.edge.check.acceptor import Acceptor
from authz.edge.check.rates import TokenBucket

GREETING = b"a" * 60
REQUEST = b"a" * 300

Begin = Callable[[], Acceptor]
Connect = Callable[[bytes], socket.socket]


class Opened(asyncio.Protocol):
    """Notes what connections sent, in the order in which they were opened."""

    def __init__(self, sent: list[bytes]) -> None:
        self._sent = sent

    def data_received(self, data: bytes) -> None:
        self._sent.append(data)


@pytest.fixture
def sent() -> list[bytes]:
    return []


@pytest.fixture
def server() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.fixture
async def begin(server: socket.socket, sent: list[bytes]) -> AsyncIterator[Begin]:
    made: list[Acceptor] = []

    def begin() -> Acceptor:
        made.append(Acceptor(server, lambda: Opened(sent), lambda: True))
        made[0].start()
        return made[0]

    yield begin
    made[0].close()
    await made[0].opened()


@pytest.fixture
def connect(server: socket.socket) -> Iterator[Connect]:
    with ExitStack() as opened:

        def connect(said: bytes) -> socket.socket:
            sock = opened.enter_context(socket.create_connection(server.getsockname()))
            sock.sendall(said)
            return sock

        yield connect


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


def without_cookies(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("0\n")
    monkeypatch.setattr(sockets, "_SYNCOOKIES", path)


async def test_silent_connections_wait_in_the_kernel(
    begin: Begin, connect: Connect, sent: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cookies").write_text("1\n")
    monkeypatch.setattr(sockets, "_SYNCOOKIES", tmp_path / "cookies")
    made = begin()
    silent = [connect(b"") for _ in range(50)]
    await asyncio.sleep(0.1)
    assert made.count == 0
    connect(REQUEST)
    await until(lambda: sent == [REQUEST])
    silent[0].sendall(GREETING)  # one that speaks at last is heard
    await until(lambda: sent == [REQUEST, GREETING])


async def test_without_syn_cookies_silent_connections_leave_the_kernel(
    begin: Begin, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_cookies(tmp_path / "cookies", monkeypatch)
    made = begin()
    silent = [connect(b"") for _ in range(50)]
    await until(lambda: made.count == 50)
    for sock in silent:
        sock.close()
    await until(lambda: made.count == 0)


async def test_accepted_sockets_have_no_delay_and_keepalives(
    begin: Begin, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_cookies(tmp_path / "cookies", monkeypatch)
    made = begin()
    connect(b"")
    await until(lambda: made.count == 1)
    (sock,) = made._silent  # noqa: SLF001 -- has no public name
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


async def test_connections_with_a_request_are_opened_first_and_of_those_the_newest(
    begin: Begin, connect: Connect, sent: list[bytes]
) -> None:
    made = begin()
    made._openings = TokenBucket(0, 0)  # noqa: SLF001 -- none until all wait
    clients = [connect(said) for said in (GREETING, REQUEST + b"1", GREETING, REQUEST + b"2", GREETING)]
    await until(lambda: made.count == len(clients))
    made._openings = TokenBucket(1_000, 1)  # noqa: SLF001
    await until(lambda: len(sent) == len(clients))
    assert sent == [REQUEST + b"2", REQUEST + b"1", GREETING, GREETING, GREETING]


async def test_what_waits_to_be_opened_is_bounded_and_requests_stay(
    begin: Begin, connect: Connect, sent: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_READY_MAX", 8)
    made = begin()
    made._openings = TokenBucket(0, 0)  # noqa: SLF001
    for said in (REQUEST, *[GREETING] * 20):
        connect(said)
    await until(lambda: made.unopened == 13)
    made._openings = TokenBucket(1_000, 8)  # noqa: SLF001
    await until(lambda: len(sent) == 8)
    assert sent[0] == REQUEST


async def test_many_silent_connections_end_without_holding_the_loop(
    begin: Begin, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_cookies(tmp_path / "cookies", monkeypatch)
    made = begin()
    for _ in range(200):
        connect(b"")
    await until(lambda: made.count == 200)
    monkeypatch.setattr(acceptor, "_SILENCE_S_MAX", -1.0)
    made.expire()
    assert made.count == 198
    await until(lambda: made.count == 0)
    assert made.silenced == 200
