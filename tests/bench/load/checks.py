"""Envoy's side of the check listener at little cost: recorded calls, a window of them in flight, every answer verified.

A call is sent as it was recorded, with a fresh request id. What is verified of an answer is its gRPC code, which tells
the kinds of answers apart; the rest of what answers say is tested elsewhere.
"""

import asyncio
import select
import socket
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from bench.load.capture import ALLOW, ID, Call
from bench.load.measured import Load

from authz.edge.h2 import wire

NO_ANSWER = -1
"""The code of a call that ended without a CheckResponse."""

HELLO = (
    wire.PREFACE
    + wire.settings({wire.HEADER_TABLE_SIZE: 0, wire.INITIAL_WINDOW_SIZE: wire.WINDOW_MAX})
    + wire.window_update(0, wire.WINDOW_MAX - wire.WINDOW_DEFAULT)
    + wire.frame(wire.SETTINGS, wire.ACK, 0)
)

# A header table of size 0, said at the beginning of the first block (RFC 7541 section 4.2).
_TABLE_GIVEN_UP = b"\x20"
_IDS = count(time.time_ns())
_READ_BYTES = 262_144
_ALLOWS = frozenset({0})


@dataclass(frozen=True, slots=True)
class Framed:
    """A call's frames without what changes; `data_word` is the length and the type of the second."""

    block: bytes = field(repr=False)
    data_word: int
    before: bytes = field(repr=False)
    after: bytes = field(repr=False)
    codes: frozenset[int]

    def append_to(self, out: list[bytes], stream_id: int) -> None:
        """Append the call's frames, under a fresh id."""
        pack = wire.FRAME_HEAD.pack
        block = self.block if stream_id != 1 else _TABLE_GIVEN_UP + self.block
        out += (
            pack(len(block) << 8 | wire.HEADERS, wire.END_HEADERS, stream_id),
            block,
            pack(self.data_word, wire.END_STREAM, stream_id),
            self.before,
            ID % next(_IDS),
            self.after,
        )


def framed(call: Call, *, always_allowed: bool = False) -> Framed:
    """Frame a call, to be answered as its codes say, or always with an allow."""
    size = len(call.message)
    before = b"\0" + size.to_bytes(4) + call.before
    codes = _ALLOWS if always_allowed else call.codes
    return Framed(call.block, size + 5 << 8, before, call.after, codes)


def code_of(data: bytes, start: int) -> int:
    """Read the gRPC code of the CheckResponse in a DATA frame's payload at `start`, without parsing it."""
    message = start + 5
    if data[message : message + 2] == ALLOW or data[message : message + 2] == b"\x0a\0":
        return 0
    return data[message + 3] if data[message] == 0x0A and data[message + 2] == 0x08 else NO_ANSWER


class Exchange:
    """One connection's calls under way, without its socket: calls into bytes, bytes into verified answers."""

    def __init__(self) -> None:
        self.latencies_s = array("d")
        self.unexpected: Counter[int] = Counter()
        self.under_way: dict[int, float] = {}
        # What each call may be answered, until it is.
        self._codes: dict[int, frozenset[int]] = {}
        self._next_id = 1
        self._rest = b""

    def send(self, calls: Iterable[Framed], now_s: float) -> bytes:
        """Begin calls, whose latencies count from `now_s`; return what is to be sent."""
        out: list[bytes] = []
        for call in calls:
            stream_id = self._next_id
            self._next_id += 2
            call.append_to(out, stream_id)
            self.under_way[stream_id] = now_s
            self._codes[stream_id] = call.codes
        return b"".join(out)

    def receive(self, data: bytes, now_s: float) -> int:
        """Take in what was read; return how many calls it ended. Raises ConnectionError where the server leaves."""
        data = self._rest + data if self._rest else data
        position, ended, end = 0, 0, len(data)
        while (body := position + wire.FRAME_HEAD_BYTES) <= end:
            word, flags, stream_id = wire.FRAME_HEAD.unpack_from(data, position)
            if body + (word >> 8) > end:
                break
            position = body + (word >> 8)
            kind = word & 0xFF
            if kind == wire.DATA:
                code = code_of(data, body)
                if code not in self._codes.pop(stream_id):
                    self.unexpected[code] += 1
            elif (kind == wire.HEADERS and flags & wire.END_STREAM) or (
                kind == wire.RST_STREAM and stream_id in self.under_way
            ):
                self._end(stream_id, now_s)
                ended += 1
            elif kind == wire.GOAWAY:
                raise ConnectionError(f"the server takes its leave: {data[body:position]!r}")
        self._rest = data[position:]
        return ended

    def _end(self, stream_id: int, now_s: float) -> None:
        self.latencies_s.append(now_s - self.under_way.pop(stream_id))
        if self._codes.pop(stream_id, None) is not None:
            self.unexpected[NO_ANSWER] += 1


class _Client(asyncio.Protocol):
    def __init__(self, calls: Iterator[Framed], until_s: float, in_flight: int) -> None:
        self._calls = calls
        self._until_s = until_s
        self._in_flight = in_flight
        self.exchange = Exchange()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # TCP gives a full transport
        self._transport.write(HELLO)
        self._send_next(self._in_flight)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        try:
            ended = self.exchange.receive(data, time.perf_counter())
        except ConnectionError as error:
            self._end(error)
        else:
            if ended:
                self._send_next(ended)

    def _send_next(self, count: int) -> None:
        now_s = time.perf_counter()
        out = self.exchange.send(islice(self._calls, count if now_s < self._until_s else 0), now_s)
        if out:
            self._transport.write(out)
        elif not self.exchange.under_way:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None) if error is None else self.done.set_exception(error)
            self._transport.close()


async def check_load(
    port: int, calls: Iterator[Framed], *, seconds: float, connections: int = 1, in_flight: int = 64
) -> Load:
    """Make calls for so many seconds, or until there are no more, `in_flight` at a time on each connection."""
    loop = asyncio.get_running_loop()
    started_s = time.perf_counter()
    made = [
        await loop.create_connection(lambda: _Client(calls, started_s + seconds, in_flight), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    return joined(time.perf_counter() - started_s, [client.exchange for _, client in made])


def steady_load(port: int, calls: Iterator[Framed], *, seconds: float, per_s: int) -> Load:
    """Begin a call every 1/`per_s` seconds, whatever becomes of the others; blocks.

    Latencies count from when a call was due, so that what delays one is not forgotten for those that it held up.
    """
    took_s, exchange = steady_exchange(port, calls, seconds=seconds, per_s=per_s)
    return joined(took_s, [exchange])


def steady_exchange(port: int, calls: Iterator[Framed], *, seconds: float, per_s: int) -> tuple[float, Exchange]:
    """Do so; return the seconds until the last answer, and all that was measured."""
    exchange = Exchange()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HELLO)
        started_s = due_s = time.perf_counter()
        begun, calls_max = 0, round(seconds * per_s)
        while begun < calls_max or exchange.under_way:
            wait_s = due_s - time.perf_counter() if begun < calls_max else 1.0
            if select.select([connection], [], [], max(0.0, wait_s))[0]:
                data = connection.recv(_READ_BYTES)
                if not data:
                    raise ConnectionError("the connection was closed")
                exchange.receive(data, time.perf_counter())
            while begun < calls_max and due_s <= time.perf_counter():
                connection.sendall(exchange.send(islice(calls, 1), due_s))
                begun += 1
                due_s = started_s + begun / per_s
        return time.perf_counter() - started_s, exchange


def joined(seconds: float, exchanges: Sequence[Exchange]) -> Load:
    """Put together what the connections of one load measured."""
    latencies_s, unexpected = array("d"), Counter[int]()
    for exchange in exchanges:
        latencies_s.extend(exchange.latencies_s)
        unexpected += exchange.unexpected
    return Load.of(seconds, latencies_s, unexpected)
