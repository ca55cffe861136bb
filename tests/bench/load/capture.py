"""Checks as the real Envoy sends them: its header blocks and messages, recorded for requests of clients.

Recording is an ext_authz service of its own, which allows everything; what clients send is `traffic.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.load.http import Prepared, http_load
from bench.load.traffic import ALLOWED, STATUSES, HttpRequest
from hpack import Decoder, HPACKError

from authz._pb.base_pb2 import HeaderMap
from authz._pb.check_pb2 import CheckRequest
from authz.edge.check.messages import SERVICE
from authz.edge.h2 import Connection, Limits, Method, Request, wire

ALLOW = bytes.fromhex("1a00")
"""A CheckResponse with an empty ok_response: an allow."""

_SERVING = bytes.fromhex("0801")
_CHECK, _HEALTH = Method(f"/{SERVICE}/Check"), Method("/grpc.health.v1.Health/Check")
_METHODS = {method.path.encode(): method for method in (_CHECK, _HEALTH)}
_REQUESTS_PER_ADDRESS = 100
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Call:
    """One Check as Envoy sends it: a header block that needs no header table, and a message, cut around its id.

    `codes` are the gRPC codes that are right in its CheckResponse.
    """

    block: bytes = field(repr=False)
    before: bytes = field(repr=False)
    after: bytes = field(repr=False)
    codes: frozenset[int]

    @property
    def message(self) -> bytes:
        """The message, with an id."""
        return self.before + ID % 1 + self.after


ID = b"%019d"
"""How a request id is written: nineteen digits, as Envoy's are at most."""


class Recorder:
    """All checks that Envoy has sent, in their order."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []

    def protocol(self) -> "_Peer":
        """Make the protocol of one connection."""
        return _Peer(self.asked)


class _Peer(asyncio.Protocol):
    def __init__(self, asked: list[tuple[bytes, bytes]]) -> None:
        self._asked = asked
        self._connection = Connection(_METHODS, Limits())
        self._rest = b""
        self._blocks: dict[int, bytes] = {}
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._connection.take_output())

    def data_received(self, data: bytes) -> None:
        self._note_blocks(data)
        for event in self._connection.receive(data, asyncio.get_running_loop().time()):
            if isinstance(event, Request):
                block = self._blocks.pop(event.stream_id)
                if event.call.method is _CHECK:
                    self._asked.append((block, event.message))
                self._connection.respond(event.stream_id, ALLOW if event.call.method is _CHECK else _SERVING)
        self._transport.write(self._connection.take_output())

    def _note_blocks(self, data: bytes) -> None:
        buffer = (self._rest + data).removeprefix(wire.PREFACE)
        start = 0
        while (body := start + wire.FRAME_HEAD_BYTES) <= len(buffer):
            word, _flags, stream_id = wire.FRAME_HEAD.unpack_from(buffer, start)
            if body + (word >> 8) > len(buffer):
                break
            start = body + (word >> 8)
            if word & 0xFF == wire.HEADERS:
                self._blocks[stream_id] = buffer[body:start]
        self._rest = buffer[start:]


@asynccontextmanager
async def recording(port: int) -> AsyncIterator[Recorder]:
    """Answer Envoy's checks on a port and remember them."""
    recorder = Recorder()
    server = await asyncio.get_running_loop().create_server(recorder.protocol, "127.0.0.1", port)
    yield recorder
    server.close()


async def capture(recorder: Recorder, url: str, requests: Sequence[HttpRequest]) -> list[Call]:
    """Send requests through Envoy at `url`, one at a time, from many addresses; return the checks they became."""
    recorder.asked.clear()
    for first in range(0, len(requests), _REQUESTS_PER_ADDRESS):
        some = [
            Prepared(request.as_bytes(), frozenset({STATUSES[ALLOWED]}))
            for request in requests[first : first + _REQUESTS_PER_ADDRESS]
        ]
        address = f"127.0.{first // _REQUESTS_PER_ADDRESS % 250 + 1}.7"
        sent = await http_load(url, iter(some), seconds=_PATIENCE_S, connections=1, address=address)
        if sent.unexpected:
            raise RuntimeError(f"Envoy let requests fail: {sent.unexpected}")
    fallback = next(block for block, _ in recorder.asked if _is_stateless(block))
    return [
        _call(block if _is_stateless(block) else fallback, message, request)
        for (block, message), request in zip(recorder.asked, requests, strict=True)
    ]


def altered(call: Call, *, secret: str = "", method: str = "", target: str = "", codes: frozenset[int]) -> Call:
    """Return a recorded check with another key, and another method and target where they are given."""
    message = CheckRequest.FromString(call.message)
    http = message.attributes.request.http
    http.method, http.path = method or http.method, target or http.path
    header_map = HeaderMap.FromString(http.header_map)
    for header in header_map.headers:
        if header.key == "x-api-key":
            header.raw_value = secret.encode()
    http.header_map = header_map.SerializeToString()
    return _cut(call.block, message, codes)


def _call(block: bytes, data: bytes, request: HttpRequest) -> Call:
    message = CheckRequest.FromString(data)
    if message.attributes.request.http.path != request.target:
        raise RuntimeError(f"Envoy asked about {message.attributes.request.http.path}, not {request.target}")
    return _cut(block, message, request.codes)


def _cut(block: bytes, message: CheckRequest, codes: frozenset[int]) -> Call:
    place = ID % 0
    message.attributes.request.http.id = place.decode()
    before, _, after = message.SerializeToString().partition(place)
    return Call(block, before, after, codes)


def _is_stateless(block: bytes) -> bool:
    """Return whether a block means the same on every connection: it neither uses the header table nor resizes it."""
    decoder = Decoder()
    decoder.header_table_size = 0
    try:
        decoder.decode(block, raw=True)
    except HPACKError:
        return False
    return block[0] & 0xE0 != 0x20  # RFC 7541 section 6.3
