"""Connections of the portal's server that say nothing are bounded, and requests in progress are not touched.

A refused client receives its response whole, also while it still sends.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn

from authz.portal.http_server import HEAD_BYTES_MAX, BoundedHttp, QuietServer

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class SmallHttp(BoundedHttp):
    connections_max = 4
    request_s_max = 0.3


async def slow(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI
    await asyncio.sleep(0.6)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    options: dict[str, Any] = {"lifespan": "off", "ws": "none", "log_config": None, "access_log": False}
    config = uvicorn.Config(slow, http=SmallHttp, h11_max_incomplete_event_size=HEAD_BYTES_MAX, **options)
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield listener.getsockname()[1]
    server.should_exit = True
    await serving


async def test_silent_connections_make_room_and_a_request_in_progress_goes_on(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    await asyncio.sleep(0.05)
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    assert b"200 OK" in await reader.readuntil(b"ok")
    fresh_reader, fresh = await asyncio.open_connection("127.0.0.1", port)
    fresh.write(REQUEST)
    assert b"200 OK" in await fresh_reader.readuntil(b"ok")
    for each in (writer, fresh, *(writer for _, writer in crowd)):
        each.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", REQUEST[:-2]])
async def test_a_head_that_does_not_come_ends_its_connection(port: int, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    started_s = time.monotonic()
    with suppress(ConnectionError):
        async with asyncio.timeout(5):
            await reader.read()
    assert time.monotonic() - started_s < 2
    writer.close()


@asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def head(size: int) -> bytes:
    return REQUEST[:-2] + b"a: " + b"x" * size + b"\r\n\r\n"


CHUNKED = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("piece", [1_000, 30_000, 1_000_000])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(60_000), b"200 OK"),
        (head(90_000), b"200 OK"),
        (head(300_000), b"400 Bad Request"),
        (head(3_000_000)[:1_300_000], b"400 Bad Request"),
        (b"GET /\r\n\r\n" + b"x" * 900_000, b"400 Bad Request"),
        (CHUNKED + b"zz\r\n" + b"x" * 900_000, b"400 Bad Request"),
        (REQUEST[:-2] + b"connection: close\r\n\r\n" + b"x" * 900_000, b"200 OK"),
    ],
    ids=["head-60k", "head-90k", "head-300k", "head-endless", "no-http", "chunk", "after-the-last"],
)
async def test_the_response_is_the_same_however_the_request_is_cut(
    port: int, sent: bytes, status: bytes, piece: int
) -> None:
    async with client(port) as (reader, writer):
        for start in range(0, len(sent), piece):
            writer.write(sent[start : start + piece])
            await writer.drain()
        answer = await reader.read() if status.startswith(b"4") else await reader.readuntil(b"ok")
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    if status.startswith(b"4"):
        assert answer.endswith(b'\r\n\r\n{"error":"bad request"}')
        assert b"x-content-type-options: nosniff" in answer


async def flood(writer: asyncio.StreamWriter) -> None:
    for _ in range(5_000):
        writer.write(b"\0" * 10_000)
        await writer.drain()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("silent_s", [0.0, 1.5])
async def test_a_refused_client_that_goes_on_sending_is_cut_off(port: int, silent_s: float) -> None:
    async with client(port) as (_, writer):
        writer.write(b"\0\r\n\r\n")
        await asyncio.sleep(silent_s)
        started_s = time.monotonic()
        with pytest.raises(ConnectionError):
            await flood(writer)
    assert time.monotonic() - started_s < 2
