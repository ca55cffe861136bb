"""Clients that take what they can of the admin server: it stays small, and probes get their answer."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from support.builders import request

from authz.adapters.prometheus.checks import Metrics, registry
from authz.core.check import Deny
from authz.core.errors import DenyReason
from authz.edge import sockets
from authz.edge.admin.connection import HttpLimits
from authz.edge.admin.server import AdminServer

LIMITS = HttpLimits(connections_max=4, requests_max=20, head_s=0.5, idle_s=0.5, response_s=2)
PROBE = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"


class CountedMetrics:
    """A registry that counts its snapshots, and can take its time."""

    def __init__(self) -> None:
        self.metrics = Metrics(lambda: {"redis": True})
        self._registry = registry(self.metrics)
        self.snapshots = 0
        self.threads: set[int] = set()

    def snapshot(self) -> CollectorRegistry:
        self.snapshots += 1
        self.threads.add(threading.get_ident())
        return self._registry.snapshot()


@pytest.fixture
def metrics() -> CountedMetrics:
    return CountedMetrics()


@pytest.fixture
async def admin(metrics: CountedMetrics) -> AsyncIterator[AdminServer]:
    server = AdminServer(metrics, lambda: {"redis": True}, "127.0.0.1:0", LIMITS)
    server.start()
    yield server
    await server.stop()


async def exchange(admin: AdminServer, sent: bytes, *, ends: bool = False) -> bytes:
    """Send bytes and return what comes until the server closes; half-close first where the client `ends`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
    try:
        writer.write(sent)
        if ends:
            writer.write_eof()
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def is_healthy(admin: AdminServer) -> bool:
    answer = await exchange(admin, PROBE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    return answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"ok\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 9_000, 431),
        (b"GET /healthz HTTP/1.1\r\n" + b"".join(b"x-%d: a\r\n" % number for number in range(100)) + b"\r\n", 431),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nsp ace: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello", 413),
        (b"GET /healthz HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        (b"POST /metrics HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello", 405),
        (b"DELETE /metrics HTTP/1.1\r\nconnection: close\r\n\r\n", 405),
        (b"GET /other HTTP/1.1\r\nconnection: close\r\n\r\n", 404),
        (b"GET /healthz?x=1 HTTP/1.0\r\n\r\n", 200),
    ],
)
async def test_a_request_gets_its_status_and_the_connection_ends(admin: AdminServer, sent: bytes, status: int) -> None:
    answer = await exchange(admin, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close\r\n" in answer
    assert await is_healthy(admin)


async def test_head_has_the_length_and_no_body(admin: AdminServer) -> None:
    answer = await exchange(admin, b"HEAD /healthz HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert b"content-length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_pipelined_requests_are_answered_in_order_up_to_a_number(admin: AdminServer) -> None:
    answer = await exchange(admin, PROBE * 100)
    assert answer.count(b"HTTP/1.1 200 OK") == LIMITS.requests_max


@pytest.fixture
async def without_cookies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AdminServer]:
    (tmp_path / "cookies").write_text("0\n")
    monkeypatch.setattr(sockets, "_SYNCOOKIES", tmp_path / "cookies")
    server = AdminServer(CountedMetrics(), lambda: {"redis": True}, "127.0.0.1:0", LIMITS)
    server.start()
    yield server
    await server.stop()


async def test_silent_connections_wait_in_the_kernel(admin: AdminServer) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", admin.port) for _ in range(40)]
    assert await is_healthy(admin)
    await asyncio.sleep(2 * LIMITS.head_s)
    assert not any(reader.at_eof() for reader, _ in silent)  # accepted, they would have made room, or been too slow
    reader, writer = silent[0]
    writer.write(PROBE)  # one that speaks at last is heard
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    for _, writer in silent:
        writer.close()


@pytest.mark.parametrize("said", [b"", b"GET /heal"])
async def test_silent_and_slow_connections_are_replaced_and_closed(without_cookies: AdminServer, said: bytes) -> None:
    admin = without_cookies
    crowd = []
    for number in range(40):
        reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
        writer.write(said)
        crowd.append((reader, writer))
        if number % 10 == 9:
            assert await is_healthy(admin)
    async with asyncio.timeout(5):
        for reader, writer in crowd:
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()


async def test_a_client_that_trickles_or_does_not_read_is_closed(admin: AdminServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
    started_s = time.monotonic()
    while not reader.at_eof() and time.monotonic() - started_s < 5:
        writer.write(b"a")
        await asyncio.sleep(0.05)
        try:
            async with asyncio.timeout(0.01):
                await reader.read(1)
        except TimeoutError:
            continue
        except ConnectionError:
            break
    assert time.monotonic() - started_s < 2
    writer.close()


async def test_scrapes_share_a_rendering_that_is_newer_than_each(admin: AdminServer, metrics: CountedMetrics) -> None:
    async def scrape() -> int:
        answer = await exchange(admin, b"GET /metrics HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK")
        return answer.count(b'reason="key_missing"')

    metrics.metrics.decided([(1, request(), Deny(DenyReason.KEY_MISSING))], 0.001)
    started_s = time.monotonic()
    for _ in range(10):
        assert await asyncio.gather(*(scrape() for _ in range(4))) == [1] * 4
    assert metrics.snapshots <= 1 + (time.monotonic() - started_s) / 0.05
    assert metrics.threads == {threading.get_ident()}  # counters are copied where they are counted


async def test_a_loop_that_hangs_shows_in_the_probe(admin: AdminServer) -> None:
    answers: list[bytes] = []

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", admin.port)) as sock:
            sock.sendall(PROBE)
            sock.settimeout(5)
            answers.append(sock.recv(100))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(3)  # noqa: ASYNC251 -- the loop hangs: this is what is tested
    asking.join()
    assert answers[0].startswith(b"HTTP/1.1 503 ")
    assert await is_healthy(admin)
