"""One connection of one peer: bytes in, requests out; answers in, bytes out.

The read loop and the frames that concern the connection as a whole are here; streams are `streams.py`.
"""

from collections.abc import Mapping

from authz.edge.h2 import wire
from authz.edge.h2.answers import Refusal
from authz.edge.h2.call import Call, Method
from authz.edge.h2.limits import Limits, Patience
from authz.edge.h2.outflow import Outflow
from authz.edge.h2.streams import AWAITING, Event, Request, Streams
from authz.edge.h2.wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    FRAME_HEAD,
    FRAME_HEAD_BYTES,
    HEADERS,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    frame,
    goaway,
    settings,
    settings_in,
    unpadded,
    window_update,
)

_PREFIX_BYTES = 5
_PRIORITY_BYTES = 5
_PING_BYTES = 8
_WORD_BYTES = 4
_SETTING_BYTES = 6
_GOAWAY_BYTES_MIN = 8


class Connection:
    """The server's side. `methods` are those it serves, by path; `is_closed` after a fault of the peer's."""

    def __init__(self, methods: Mapping[bytes, Method], limits: Limits) -> None:
        self._limits = limits
        self._patience = Patience(limits)
        self._outflow = Outflow()
        self._streams = Streams(limits, methods, self._outflow, self._patience)
        self._rest = b""
        self._awaits_preface = True
        self._awaits_settings = True
        self._partial: tuple[int, int, bytearray] | None = None  # stream id, flags and block of unfinished HEADERS
        self.is_closed = False
        self.is_draining = False
        self._outflow.write(
            settings(
                {
                    wire.HEADER_TABLE_SIZE: 0,
                    wire.MAX_CONCURRENT_STREAMS: limits.streams_max,
                    wire.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                    wire.MAX_HEADER_LIST_SIZE: limits.header_list_bytes_max,
                }
            )
        )
        if limits.connection_window_bytes > wire.WINDOW_DEFAULT:
            self._outflow.write(window_update(0, limits.connection_window_bytes - wire.WINDOW_DEFAULT))

    @property
    def is_finished(self) -> bool:
        """Tell whether a drain is over: every call is answered and nothing waits to be sent."""
        return self.is_draining and not self._streams.open

    def receive(self, data: bytes, now_s: float) -> list[Event]:
        """Take what was read at `now_s` (any monotonic clock); returns what it completed, in order."""
        events: list[Event] = []
        if self.is_closed:
            return events
        self._patience.now_s = now_s
        try:
            self._read(self._rest + data if self._rest else data, events)
        except ConnectionFault as fault:
            self.is_closed = True
            self._rest = b""
            self._outflow.write(goaway(self._streams.last_id, fault.code, str(fault)))
            self._streams.abandon(events)
        return events

    def respond(self, stream_id: int, message: bytes) -> None:
        """Answer a call with one message; a call that is gone is left alone."""
        self._streams.respond(stream_id, message)

    def refuse(self, stream_id: int, refusal: Refusal) -> None:
        """Answer a call without a message; a call that is gone is left alone."""
        self._streams.refuse(stream_id, refusal)

    def take_output(self) -> bytes:
        """Return everything to be written now."""
        return self._outflow.take()

    def drain(self) -> None:
        """Tell the peer to go elsewhere; calls under way are still answered, later ones refused for another try."""
        if not self.is_draining and not self.is_closed:
            self.is_draining = True
            self._streams.open_max = 0
            self._outflow.write(goaway(self._streams.last_id, ErrorCode.NO_ERROR))

    def abandon(self) -> list[Event]:
        """Forget every call, because the peer is gone; returns those that nobody waits for any more."""
        events: list[Event] = []
        self.is_closed = True
        self._streams.abandon(events)
        return events

    def _read(self, buffer: bytes, events: list[Event]) -> None:
        position, size = self._past_preface(buffer), len(buffer)
        if self._awaits_preface:
            self._rest = buffer
            return
        while size - position >= FRAME_HEAD_BYTES:
            word, flags, stream_id = FRAME_HEAD.unpack_from(buffer, position)
            start, length = position + FRAME_HEAD_BYTES, word >> 8
            if length > FRAME_BYTES_MAX:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame too large")
            if start + length > size:
                break
            position = start + length
            payload = buffer[start:position]
            if not self._ordinary(word & 0xFF, flags, stream_id, payload, events):
                self._unusual(word & 0xFF, flags, stream_id & wire.STREAM_ID_MASK, payload, events)
        self._rest = buffer[position:]
        missing = self._limits.connection_window_bytes - self._streams.window_bytes
        if missing > self._streams.window_bytes:
            self._streams.window_bytes += missing
            self._outflow.write(window_update(0, missing))

    def _past_preface(self, buffer: bytes) -> int:
        if not self._awaits_preface:
            return 0
        if not wire.PREFACE.startswith(buffer[: len(wire.PREFACE)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not HTTP/2")
        if len(buffer) < len(wire.PREFACE):
            return 0
        self._awaits_preface = False
        return len(wire.PREFACE)

    def _ordinary(self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> bool:
        """Take the two frames that Envoy's calls are made of, the short way; False where anything is not as usual."""
        streams = self._streams
        if kind == HEADERS and flags == END_HEADERS:
            call = streams.blocks.known.get(payload) or streams.blocks.seen(payload)
            if (
                call is None
                or self._partial is not None
                or stream_id <= streams.last_id
                or not stream_id & 1
                or len(streams.open) >= streams.open_max
            ):
                return False
            streams.last_id = stream_id
            streams.open[stream_id] = call
            return True
        if kind == DATA and flags == END_STREAM:
            opened, size = streams.open.get(stream_id), len(payload)
            if (
                type(opened) is not Call
                or self._partial is not None
                or size > streams.window_bytes
                or size - _PREFIX_BYTES > self._limits.message_bytes_max
                or size < _PREFIX_BYTES
                or payload[0]
                or int.from_bytes(payload[1:_PREFIX_BYTES]) != size - _PREFIX_BYTES
            ):
                return False
            streams.window_bytes -= size
            streams.open[stream_id] = AWAITING
            events.append(Request(stream_id, opened, payload[_PREFIX_BYTES:]))
            return True
        return False

    def _unusual(self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if self._awaits_settings and (kind != wire.SETTINGS or flags & wire.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")
        if self._partial is not None and (kind != wire.CONTINUATION or stream_id != self._partial[0]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        try:
            if kind in _STREAM_FRAMES:
                if not stream_id:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream's frame on stream 0")
                _STREAM_FRAMES[kind](self, flags, stream_id, payload, events)
            elif kind in _CONNECTION_FRAMES:
                if stream_id:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a connection's frame on a stream")
                _CONNECTION_FRAMES[kind](self, flags, payload)
            elif kind == wire.WINDOW_UPDATE:
                self._widen(stream_id, payload)
            elif kind == wire.PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "clients do not push")
            else:  # RFC 9113 section 5.5: unknown frames are ignored
                self._patience.spend()
        except StreamFault as fault:
            self._streams.fail(stream_id, fault.code, events)

    def _data(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        body = unpadded(flags, payload)
        self._streams.data(stream_id, body, len(payload), events, ends=bool(flags & END_STREAM))

    def _headers(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        block = unpadded(flags, payload)
        if flags & wire.PRIORITISED:
            if len(block) < _PRIORITY_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "priority cut short")
            block = block[_PRIORITY_BYTES:]
        if flags & END_HEADERS:
            self._streams.headers(stream_id, block, events, ends=bool(flags & END_STREAM))
        else:
            self._partial = (stream_id, flags, bytearray(block))

    def _continuation(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if self._partial is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a continuation of nothing")
        self._patience.spend()
        _, first_flags, block = self._partial
        block += payload
        if len(block) > self._limits.header_list_bytes_max:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")
        if flags & END_HEADERS:
            self._partial = None
            self._streams.headers(stream_id, bytes(block), events, ends=bool(first_flags & END_STREAM))

    def _priority(self, _flags: int, stream_id: int, payload: bytes, _events: list[Event]) -> None:
        self._patience.spend()
        if len(payload) != _PRIORITY_BYTES:
            fault = ConnectionFault if self._streams.is_idle(stream_id) else StreamFault
            raise fault(ErrorCode.FRAME_SIZE_ERROR, "a priority is five bytes")

    def _reset(self, _flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        self._patience.spend()
        if len(payload) != _WORD_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a reset is four bytes")
        self._streams.reset(stream_id, events)

    def _settings(self, flags: int, payload: bytes) -> None:
        if len(payload) % _SETTING_BYTES or (flags & wire.ACK and payload):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "settings of a wrong size")
        if flags & wire.ACK:
            self._streams.blocks.forbid_table()
            return
        self._patience.spend()
        self._awaits_settings = False
        for name, value in settings_in(payload):
            self._outflow.obey(name, value)
        self._outflow.write(frame(wire.SETTINGS, wire.ACK, 0))
        self._streams.flush()

    def _ping(self, flags: int, payload: bytes) -> None:
        self._patience.spend()
        if len(payload) != _PING_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a ping is eight bytes")
        if not flags & wire.ACK:
            self._outflow.write(frame(wire.PING, wire.ACK, 0, payload))

    def _goaway(self, _flags: int, payload: bytes) -> None:
        self._patience.spend()
        if len(payload) < _GOAWAY_BYTES_MIN:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "goaway cut short")

    def _widen(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != _WORD_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a window update is four bytes")
        increment = int.from_bytes(payload) & wire.STREAM_ID_MASK
        if not stream_id:
            self._outflow.widen(increment)
        elif self._streams.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window update on an idle stream")
        elif stream_id in self._streams.open:
            self._outflow.widen_stream(stream_id, increment)
        else:
            self._patience.spend()
        self._streams.flush()


_STREAM_FRAMES = {
    DATA: Connection._data,  # noqa: SLF001 -- the class' own table
    HEADERS: Connection._headers,  # noqa: SLF001
    wire.CONTINUATION: Connection._continuation,  # noqa: SLF001
    wire.PRIORITY: Connection._priority,  # noqa: SLF001
    wire.RST_STREAM: Connection._reset,  # noqa: SLF001
}
_CONNECTION_FRAMES = {
    wire.SETTINGS: Connection._settings,  # noqa: SLF001
    wire.PING: Connection._ping,  # noqa: SLF001
    wire.GOAWAY: Connection._goaway,  # noqa: SLF001
}
