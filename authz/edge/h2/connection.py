"""One connection of one peer: bytes in, requests out; answers in, bytes out.

The read loop is here; what a frame means for its stream is `streams.py`, for the whole connection `session.py`.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from authz.edge.h2 import wire
from authz.edge.h2.answers import Refusal
from authz.edge.h2.call import Call, Method
from authz.edge.h2.events import Event, Request
from authz.edge.h2.limits import Limits, Patience
from authz.edge.h2.outflow import Outflow
from authz.edge.h2.session import Session
from authz.edge.h2.streams import AWAITING, Streams
from authz.edge.h2.wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    FRAME_HEAD_BYTES,
    FRAME_HEAD_READ,
    HEADERS,
    MESSAGE_HEAD_READ,
    PREFIX_BYTES,
    ConnectionFault,
    ErrorCode,
    StreamFault,
)

# A frame's type and flags in one word: the two frames of an ordinary request.
_WHOLE_HEADERS = HEADERS << 8 | END_HEADERS
_LAST_DATA = DATA << 8 | END_STREAM
_FIRST_ON_STREAM = 0x8000_0001  # a client's stream id is odd, and the bit above it is reserved
_PRIORITY_BYTES = 5
_SIZES = {wire.RST_STREAM: 4, wire.PING: 8, wire.WINDOW_UPDATE: 4}


class Connection:
    """The server's side of one HTTP/2 connection (RFC 9113) that carries gRPC.

    The listener writes `take_output()` on connecting, after every `receive`, and after answers given later; it closes
    the socket once the connection `is_closed` or `is_finished`. Nothing here raises for what a peer sends.
    """

    __slots__ = (
        "_block",
        "_is_greeted",
        "_limits",
        "_outflow",
        "_patience",
        "_rest",
        "_session",
        "_streams",
        "is_closed",
        "respond",
    )

    respond: Callable[[int, bytes], bool]
    """Answer a call with one message and status OK; tell whether anybody still waited for it.

    A streaming call may be answered before its end: whatever its peer sent until it read that is delivered, and the
    call is open until the peer ends or resets it.
    """

    def __init__(self, methods: Mapping[bytes, Method], limits: Limits) -> None:
        """Serve `methods`, keyed by path."""
        self._limits = limits
        self._outflow = Outflow()
        self._patience = Patience(limits)
        self._streams = Streams(limits, methods, self._outflow, self._patience)
        self.respond = self._streams.respond
        self._rest = b""
        self._block: _Block | None = None
        self._is_greeted = False
        self._session = Session(limits, self._outflow, self._streams)
        self.is_closed = False

    @property
    def is_finished(self) -> bool:
        """Tell whether a drain is over: no new call is accepted and every call is answered."""
        return self._session.is_leaving and not self._streams.open

    def receive(self, data: bytes, now_s: float) -> list[Event]:
        """Take in what one read brought; return what it completed, in order. `now_s` is a monotonic clock's."""
        events: list[Event] = []
        if self.is_closed:
            return events
        self._patience.now_s = now_s
        buffer = self._rest + data if self._rest else data
        try:
            start = 0 if self._is_greeted else self._greeting(buffer)
            self._rest = buffer[self._walk(buffer, start, events) :]
        except ConnectionFault as fault:
            self._outflow.write(wire.goaway(self._streams.last_id, fault.code, str(fault)))
            self.is_closed = True
            self._rest = b""
            self._streams.abandon(events)
            return events
        used = self._limits.connection_window_bytes - self._streams.window_bytes
        if used > self._streams.window_bytes:
            self._streams.window_bytes += used
            self._outflow.write(wire.window_update(0, used))
        if self._outflow.is_waiting:
            self._streams.flush()
        return events

    def refuse(self, stream_id: int, refusal: Refusal) -> None:
        """Answer a call without a message; a stream that is gone is ignored."""
        self._streams.refuse(stream_id, refusal)

    def take_output(self) -> bytes:
        """Return all that is to be written now."""
        return self._outflow.take()

    def drain(self) -> None:
        """Take leave: finish what is in flight and what the peer sent before it knew, then be `is_finished`.

        Two steps (RFC 9113 section 6.8), because requests may be under way: a GOAWAY that still accepts all, and once
        a PING has come back, one with the last stream's id.
        """
        self._session.drain()

    def abandon(self) -> list[Event]:
        """Note that the transport is gone; return a `Cancelled` for every call still unanswered."""
        events: list[Event] = []
        self.is_closed = True
        self._streams.abandon(events)
        return events

    def _greeting(self, buffer: bytes) -> int:
        if buffer.startswith(wire.PREFACE):
            self._is_greeted = True
            return len(wire.PREFACE)
        if not wire.PREFACE.startswith(buffer):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not HTTP/2")
        return 0

    def _walk(self, buffer: bytes, start: int, events: list[Event]) -> int:
        """Read all whole frames from `start`; return where the rest begins.

        The two frames of an ordinary request are read here, all others by `_frame`. Both ways of reading them agree:
        this one only leaves out what cannot matter to a known block and a message that is whole.
        """
        streams = self._streams
        is_open = streams.open
        known = streams.blocks.known
        unpack = MESSAGE_HEAD_READ.unpack_from
        is_between = self._block is None
        end = len(buffer) if self._is_greeted else 0
        while (body := start + FRAME_HEAD_BYTES) <= end:
            try:
                overlong, size, kind, stream_id, is_compressed, message_bytes = unpack(buffer, start)
            except struct.error:  # too near to the end to be a message's
                (overlong, size, kind, stream_id), is_compressed = FRAME_HEAD_READ.unpack_from(buffer, start), True
            if overlong or size > FRAME_BYTES_MAX:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame too large")
            start_next = body + size
            if start_next > end:
                break
            if (
                kind == _LAST_DATA
                and is_between
                and type(call := is_open.get(stream_id)) is Call
                and not is_compressed
                and message_bytes == size - PREFIX_BYTES  # all of it is here
                and (call.content_length is None or call.content_length == size)
                and (window_bytes := streams.window_bytes - size) >= 0
            ):
                streams.window_bytes = window_bytes
                is_open[stream_id] = AWAITING
                events.append(Request(stream_id, call, buffer[body + PREFIX_BYTES : start_next]))
            elif (
                kind == _WHOLE_HEADERS
                and is_between
                and stream_id > streams.last_id
                and stream_id & _FIRST_ON_STREAM == 1
                and len(is_open) < streams.open_max
                and (call := known.get(block := buffer[body:start_next]) or streams.blocks.seen(block))
            ):
                streams.last_id = stream_id
                is_open[stream_id] = call
            else:
                self._frame(kind >> 8, kind & 0xFF, stream_id & wire.STREAM_ID_MASK, buffer[body:start_next], events)
                is_between = self._block is None
            start = start_next
        return start

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if not self._session.is_settled and (kind != wire.SETTINGS or flags & wire.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "settings must come first")
        if (self._block is not None) != (kind == wire.CONTINUATION):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "continuation out of place")
        if kind not in (DATA, HEADERS, wire.WINDOW_UPDATE) or (kind == wire.WINDOW_UPDATE and self._outflow.is_waiting):
            self._patience.spend()
        if kind in _SIZES and len(payload) != _SIZES[kind]:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame of the wrong size")
        try:
            if stream_id:
                self._on_stream(kind, flags, stream_id, payload, events)
            else:
                self._session.receive(kind, flags, payload)
        except StreamFault as fault:
            self._streams.fail(stream_id, fault.code, events)

    def _on_stream(self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        match kind:
            case wire.DATA:
                data = wire.unpadded(flags, payload)
                self._streams.data(stream_id, data, len(payload), events, ends=bool(flags & END_STREAM))
            case wire.HEADERS:
                self._block = _Block(stream_id, bool(flags & END_STREAM))
                self._fragment(flags, stream_id, _prioritised(flags, wire.unpadded(flags, payload)), events)
            case wire.CONTINUATION:
                self._fragment(flags, stream_id, payload, events)
            case wire.RST_STREAM:
                self._streams.reset(stream_id, events)
            case wire.WINDOW_UPDATE:
                self._streams.widen(stream_id, int.from_bytes(payload) & wire.WINDOW_MAX)
            case wire.PRIORITY:
                if len(payload) != _PRIORITY_BYTES:
                    fault = ConnectionFault if self._streams.is_idle(stream_id) else StreamFault
                    raise fault(ErrorCode.FRAME_SIZE_ERROR, "priority of the wrong size")
            case wire.SETTINGS | wire.PING | wire.GOAWAY | wire.PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame that no client sends on a stream")

    def _fragment(self, flags: int, stream_id: int, fragment: bytes, events: list[Event]) -> None:
        block = self._block
        if block is None or block.stream_id != stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "continuation of another stream")
        block.data += fragment
        if len(block.data) > self._limits.header_block_bytes_max:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")
        if flags & END_HEADERS:
            self._block = None
            self._streams.headers(stream_id, bytes(block.data), events, ends=block.ends)


@dataclass(slots=True)
class _Block:
    """A header block that is still coming (RFC 9113 section 4.3)."""

    stream_id: int
    ends: bool
    data: bytearray = field(default_factory=bytearray)


def _prioritised(flags: int, payload: bytes) -> bytes:
    # Priorities are read past, as RFC 9113 section 5.3.2 suggests.
    if not flags & wire.PRIORITISED:
        return payload
    if len(payload) < _PRIORITY_BYTES:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "headers too short for their priority")
    return payload[_PRIORITY_BYTES:]
