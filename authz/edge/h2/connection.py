"""One HTTP/2 connection: received bytes become requests, responses become bytes to send.

This module owns the read loop. The meaning of a frame for its stream is in `streams.py`, for the connection in
`session.py`.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from authz.edge.h2 import wire
from authz.edge.h2.call import Call, Method
from authz.edge.h2.events import Event, Request
from authz.edge.h2.limits import FloodGuard, Limits, UploadBudget
from authz.edge.h2.responses import Refusal
from authz.edge.h2.send_buffer import SendBuffer
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

# Frame type and flags in one word: the two frames of an ordinary request.
_WHOLE_HEADERS = HEADERS << 8 | END_HEADERS
_LAST_DATA = DATA << 8 | END_STREAM
_FIRST_ON_STREAM = 0x8000_0001  # client stream ids are odd, and the highest bit is reserved
_SIZES = {wire.RST_STREAM: 4, wire.PING: 8, wire.WINDOW_UPDATE: 4}


class Connection:
    """The server side of one HTTP/2 connection (RFC 9113) that carries gRPC.

    The listener writes `take_output()` after connecting, after every `receive`, and after each later response. It
    closes the socket when the connection `is_closed` or `is_finished`. Input of the peer raises no exception.
    """

    __slots__ = (
        "_block",
        "_flood_guard",
        "_has_preface",
        "_limits",
        "_send_buffer",
        "_session",
        "_streams",
        "_unparsed",
        "is_closed",
        "is_proven",
        "respond",
        "respond_all",
    )

    respond: Callable[[int, bytes], bool]
    """Send a response of one message with status OK; return whether the call was still open.

    A streaming call may get its response before its end. The connection still delivers what the peer sent before it
    read the response, and the call is open until the peer ends or resets it.
    """

    respond_all: Callable[[Iterable[tuple[int, bytes]]], None]
    """Send responses of one message each, by stream id; ignore calls that are closed."""

    def __init__(self, methods: Mapping[bytes, Method], limits: Limits, uploads: UploadBudget | None = None) -> None:
        """Serve `methods`, keyed by path. `uploads` is the budget of all connections together."""
        self._limits = limits
        self._send_buffer = SendBuffer()
        self._flood_guard = FloodGuard(limits)
        self._streams = Streams(limits, methods, self._send_buffer, self._flood_guard, uploads)
        self.respond, self.respond_all = self._streams.respond, self._streams.respond_all
        self._unparsed = b""
        self._block: _Block | None = None
        self._has_preface = False
        self._session = Session(limits, self._send_buffer, self._streams, self._flood_guard)
        self.is_closed = False
        self.is_proven = False

    @property
    def has_settings(self) -> bool:
        """Whether the peer has completed the handshake: preface and SETTINGS."""
        return self._session.has_settings

    @property
    def last_received_s(self) -> float:
        """The time of the last `receive`; 0 before it."""
        return self._flood_guard.now_s

    @property
    def streams(self) -> int:
        """The number of open calls."""
        return len(self._streams.open)

    @property
    def upload_bytes(self) -> int:
        """The bytes of incomplete requests."""
        return self._streams.upload_bytes

    @property
    def buffered_bytes(self) -> int:
        """All bytes that the connection holds for its peer, in both directions."""
        block = len(self._block.data) if self._block is not None else 0
        return len(self._unparsed) + block + self._streams.upload_bytes + self._send_buffer.waiting_bytes

    @property
    def is_finished(self) -> bool:
        """Whether the drain is complete: no new call is accepted and every call has its response."""
        return self._session.is_closing and not self._streams.open

    def receive(self, data: bytes, now_s: float) -> list[Event]:
        """Parse the bytes of one read; return the completed events in order. `now_s` is monotonic time."""
        events: list[Event] = []
        if self.is_closed:
            return events
        self._flood_guard.now_s = now_s
        buffer = self._unparsed + data if self._unparsed else data
        try:
            start = 0 if self._has_preface else self._read_preface(buffer)
            stop = self._read_frames(buffer, start, events)
            self._unparsed = buffer[stop:]
            if not stop:  # a read that completes no frame costs as much as one that does
                self._flood_guard.spend()
        except ConnectionFault as fault:
            self._fail(fault, events)
            return events
        if events and not self.is_proven:
            self.is_proven = True
            self._flood_guard.prove()
        used = self._limits.connection_window_bytes - self._streams.window_bytes
        if used > self._streams.window_bytes:
            self._streams.window_bytes += used
            self._send_buffer.write(wire.window_update(0, used))
        if self._send_buffer.is_sendable:
            self._streams.flush()
        return events

    def refuse(self, stream_id: int, refusal: Refusal) -> None:
        """Send a response without a message; ignore a stream that is closed."""
        self._streams.refuse(stream_id, refusal)

    def expire(self) -> list[Event]:
        """Reset the calls that were incomplete at the last `expire` already, or whose response is still blocked."""
        events: list[Event] = []
        try:
            self._streams.expire(events)
        except ConnectionFault as fault:
            self._fail(fault, events)
        return events

    def take_output(self) -> bytes:
        """Return all bytes to write now."""
        return self._send_buffer.take()

    def drain(self) -> None:
        """Start the drain: serve the calls in flight and those sent before the peer read the GOAWAY.

        Two steps (RFC 9113 section 6.8), because requests may be in flight: first a GOAWAY that accepts all streams;
        after the acknowledged PING, a GOAWAY with the id of the last stream.
        """
        self._session.drain()

    def abandon(self) -> list[Event]:
        """Close without sending, because the transport is closed; return `Cancelled` for every open call."""
        events: list[Event] = []
        self.is_closed = True
        self._streams.abandon(events)
        return events

    def _fail(self, fault: ConnectionFault, events: list[Event]) -> None:
        self._send_buffer.write(wire.goaway(self._streams.last_id, fault.code, str(fault)))
        self.is_closed = True
        self._unparsed = b""
        self._streams.abandon(events)

    def _read_preface(self, buffer: bytes) -> int:
        if buffer.startswith(wire.PREFACE):
            self._has_preface = True
            return len(wire.PREFACE)
        if not wire.PREFACE.startswith(buffer):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not HTTP/2")
        return 0

    def _read_frames(self, buffer: bytes, start: int, events: list[Event]) -> int:
        """Read all complete frames from `start`; return the position of the first incomplete one.

        The two frames of an ordinary request are read here, all others by `_frame`. Both ways have the same effect:
        this one only omits checks that cannot fail for a known header block and a complete message.
        """
        streams = self._streams
        is_open = streams.open
        known = streams.blocks.known
        unpack = MESSAGE_HEAD_READ.unpack_from
        is_between = self._block is None
        end = len(buffer) if self._has_preface else 0
        while (body := start + FRAME_HEAD_BYTES) <= end:
            try:
                overlong, size, kind, stream_id, is_compressed, message_bytes = unpack(buffer, start)
            except struct.error:  # too few bytes left for a message
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
                and message_bytes == size - PREFIX_BYTES  # the message is complete
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
                and (call := known.get(block := buffer[body:start_next]) or streams.blocks.match(block))
            ):
                streams.last_id = stream_id
                is_open[stream_id] = call
            else:
                self._frame(kind >> 8, kind & 0xFF, stream_id & wire.STREAM_ID_MASK, buffer[body:start_next], events)
                is_between = self._block is None
            start = start_next
        return start

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if not self._session.has_settings and (kind != wire.SETTINGS or flags & wire.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")
        if (self._block is not None) != (kind == wire.CONTINUATION):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "unexpected or missing continuation")
        if kind not in (DATA, HEADERS, wire.WINDOW_UPDATE) or (
            kind == wire.WINDOW_UPDATE and self._send_buffer.is_waiting
        ):
            self._flood_guard.spend()
        if kind in _SIZES and len(payload) != _SIZES[kind]:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "wrong frame size")
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
                self._fragment(flags, stream_id, wire.without_priority(flags, wire.unpadded(flags, payload)), events)
            case wire.CONTINUATION:
                self._fragment(flags, stream_id, payload, events)
            case wire.RST_STREAM:
                self._streams.reset(stream_id, events)
            case wire.WINDOW_UPDATE:
                self._streams.increase_window(stream_id, int.from_bytes(payload) & wire.WINDOW_MAX)
            case wire.PRIORITY:
                if len(payload) != wire.PRIORITY_BYTES:
                    fault = ConnectionFault if self._streams.is_idle(stream_id) else StreamFault
                    raise fault(ErrorCode.FRAME_SIZE_ERROR, "wrong size of PRIORITY")
            case wire.SETTINGS | wire.PING | wire.GOAWAY | wire.PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "frame type not permitted on a stream")

    def _fragment(self, flags: int, stream_id: int, fragment: bytes, events: list[Event]) -> None:
        block = self._block
        if block is None or block.stream_id != stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "continuation for another stream")
        block.data += fragment
        if len(block.data) > self._limits.header_block_bytes_max:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")
        if flags & END_HEADERS:
            self._block = None
            self._streams.headers(stream_id, bytes(block.data), events, ends=block.ends)


@dataclass(slots=True)
class _Block:
    """A header block whose last fragment has not arrived (RFC 9113 section 4.3)."""

    stream_id: int
    ends: bool
    data: bytearray = field(default_factory=bytearray)
