"""Connections of the portal's server that say nothing are bounded, and requests in progress are not touched."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import uvicorn

from authz.portal.http_server import BoundedHttp, QuietServer

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
    config = uvicorn.Config(slow, lifespan="off", http=SmallHttp, log_config=None, access_log=False, ws="none")
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
