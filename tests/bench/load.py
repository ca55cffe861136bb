"""A client that costs little: calls prebuilt as HTTP/2 frames, a window of them in flight, answers counted by frame.

It checks that every call ended well and no more; what the answers say is tested elsewhere.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hpack import Encoder

from authz.edge.checks import SERVICE
from authz.edge.h2 import wire

_FIELDS = (
    (":method", "POST"),
    (":path", f"/{SERVICE}/Check"),
    (":authority", "authz"),
    (":scheme", "http"),
    ("te", "trailers"),
    ("grpc-timeout", "200m"),
    ("content-type", "application/grpc"),
    ("x-envoy-internal", "true"),
    ("x-forwarded-for", "10.0.0.7"),
    ("x-envoy-expected-rq-timeout-ms", "200"),
)
_HELLO = (
    wire.PREFACE
    + wire.settings({wire.HEADER_TABLE_SIZE: 0, wire.INITIAL_WINDOW_SIZE: wire.WINDOW_MAX})
    + wire.window_update(0, wire.WINDOW_MAX - wire.WINDOW_DEFAULT)
)


def _block() -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(_FIELDS))


@dataclass(frozen=True, slots=True)
class Load:
    """What a run took, in seconds of wall clock, and each call's latency in seconds."""

    calls: int
    seconds: float
    latencies_s: list[float]


class _Client(asyncio.Protocol):
    def __init__(self, messages: Sequence[bytes], calls: int, in_flight: int) -> None:
        self._messages = messages
        self._calls = calls
        self._in_flight = in_flight
        self._block = _block()
        self._begun = 0
        self._rest = b""
        self._asked_s: dict[int, float] = {}
        self.latencies_s: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # TCP gives a full transport
        self._transport.write(_HELLO + wire.frame(wire.SETTINGS, wire.ACK, 0))
        self._ask(self._in_flight)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        position, ended = 0, 0
        while len(data) - position >= wire.FRAME_HEAD_BYTES:
            word, flags, stream_id = wire.FRAME_HEAD.unpack_from(data, position)
            stop = position + wire.FRAME_HEAD_BYTES + (word >> 8)
            if stop > len(data):
                break
            position = stop
            if word & 0xFF == wire.HEADERS and flags & wire.END_STREAM:
                self.latencies_s.append(time.perf_counter() - self._asked_s.pop(stream_id))
                ended += 1
            elif word & 0xFF in {wire.RST_STREAM, wire.GOAWAY}:
                self.done.set_exception(ConnectionError("a call was not answered"))
                return
        self._rest = data[position:]
        if ended:
            self._ask(ended)

    def _ask(self, count: int) -> None:
        out = []
        for _ in range(min(count, self._calls - self._begun)):
            stream_id = 2 * self._begun + 1
            message = self._messages[self._begun % len(self._messages)]
            body = b"\0" + len(message).to_bytes(4) + message
            out.append(wire.frame(wire.HEADERS, wire.END_HEADERS, stream_id, self._block))
            out.append(wire.frame(wire.DATA, wire.END_STREAM, stream_id, body))
            self._asked_s[stream_id] = time.perf_counter()
            self._begun += 1
        if out:
            self._transport.write(b"".join(out))
        elif not self._asked_s and not self.done.done():
            self.done.set_result(None)


async def load(port: int, messages: Sequence[bytes], *, calls: int, in_flight: int) -> Load:
    """Make `calls` calls over one connection, `in_flight` at a time, with the messages in turn."""
    loop = asyncio.get_running_loop()
    started_s = time.perf_counter()
    transport, client = await loop.create_connection(lambda: _Client(messages, calls, in_flight), "127.0.0.1", port)
    await client.done
    seconds = time.perf_counter() - started_s
    transport.close()
    return Load(calls, seconds, client.latencies_s)
