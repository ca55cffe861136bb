"""A backend for HTTP/1.1 and HTTP/2 without TLS that returns each request as JSON, trailers included.

The body is an `Echo`. HTTP/1.1 connections close after one response.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, TrailersReceived

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Headers = list[tuple[str, str]]


class EchoBackend:
    """The server. `extra_headers` are added to each response."""

    def __init__(self) -> None:
        self.extra_headers: Headers = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            start = await reader.readuntil(b"\r\n")
            if start == _PREFACE[: len(start)]:
                await _Http2(self, writer).serve(start, reader)
            else:
                await self._http1(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers = await _fields(reader)
        trailers: Headers = []
        values = dict(headers)
        if values.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            trailers = await _fields(reader)
        else:
            await reader.readexactly(int(values.get("content-length", "0")))
        body = echo(headers, trailers)
        lines = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        head = "".join(f"{name}: {value}\r\n" for name, value in [*lines, *self.extra_headers])
        writer.write(b"HTTP/1.1 200 OK\r\n" + head.encode() + b"\r\n" + body)
        await writer.drain()


class _Http2:
    def __init__(self, backend: EchoBackend, writer: asyncio.StreamWriter) -> None:
        self._backend = backend
        self._writer = writer
        self._requests: dict[int, tuple[Headers, Headers]] = {}
        config = H2Configuration(client_side=False, header_encoding="latin-1", validate_inbound_headers=False)
        self._connection = H2Connection(config)
        self._connection.initiate_connection()

    async def serve(self, start: bytes, reader: asyncio.StreamReader) -> None:
        data = start
        while data:
            for event in self._connection.receive_data(data):
                self._take(event)
            self._writer.write(self._connection.data_to_send())
            data = await reader.read(65_536)

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=int(stream_id), headers=headers):
                self._requests[stream_id] = _texts(headers), []
            case TrailersReceived(stream_id=int(stream_id), headers=headers):
                self._requests[stream_id][1].extend(_texts(headers))
            case DataReceived(stream_id=int(stream_id), flow_controlled_length=length) if length:
                self._connection.acknowledge_received_data(length, stream_id)
            case StreamEnded(stream_id=int(stream_id)):
                body = echo(*self._requests.pop(stream_id))
                fields = [(":status", "200"), ("content-type", "application/json"), *self._backend.extra_headers]
                self._connection.send_headers(stream_id, [(name.encode(), value.encode()) for name, value in fields])
                self._connection.send_data(stream_id, body, end_stream=True)
            case _:
                pass


def _texts(headers: object) -> Headers:
    return [(str(name), str(value)) for name, value in headers]  # type: ignore[attr-defined]  # any list of pairs


async def _fields(reader: asyncio.StreamReader) -> Headers:
    fields = []
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        fields.append((name.lower(), value.strip()))
    return fields


def echo(headers: Headers, trailers: Headers) -> bytes:
    return json.dumps({"headers": headers, "trailers": trailers}).encode()


@contextmanager
def echo_backend() -> Iterator[tuple[EchoBackend, int]]:
    """Yield a backend in a thread, and its port on loopback."""
    backend, loop = EchoBackend(), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(backend.serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield backend, server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
