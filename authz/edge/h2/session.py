"""The state of a connection as a whole: settings, pings, its window, and the drain.

Streams are in `streams.py`; this module only applies the settings to them.
"""

from authz.edge.h2 import wire
from authz.edge.h2.limits import FloodGuard, Limits
from authz.edge.h2.send_buffer import SendBuffer
from authz.edge.h2.streams import Streams
from authz.edge.h2.wire import ConnectionFault, ErrorCode

_DRAIN_PING = b"last one"
_SETTING_BYTES = 6
_GOAWAY_BYTES_MIN = 8
_FRAME_BYTES_LIMIT = 2**24 - 1
_SETTINGS_MAX = 32  # in one frame; six are defined, and each costs work
_STREAMS_PER_NUISANCE = 128


class Session:
    """The frames on stream 0.

    `has_settings` is true after the peer's first SETTINGS, `is_closing` when no new stream is accepted.
    """

    __slots__ = ("_flood_guard", "_is_draining", "_send_buffer", "_streams", "has_settings", "is_closing")

    def __init__(self, limits: Limits, send_buffer: SendBuffer, streams: Streams, flood_guard: FloodGuard) -> None:
        """Send our settings. A header table of size 0 permits `blocks.py` to cache header blocks."""
        self._send_buffer = send_buffer
        self._streams = streams
        self._flood_guard = flood_guard
        self._is_draining = False
        self.is_closing = False
        self.has_settings = False
        send_buffer.write(
            wire.settings(
                {
                    wire.HEADER_TABLE_SIZE: 0,
                    wire.MAX_CONCURRENT_STREAMS: limits.streams_max,
                    wire.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                    wire.MAX_HEADER_LIST_SIZE: limits.header_list_bytes_max,
                }
            )
        )
        if limits.connection_window_bytes > wire.WINDOW_DEFAULT:
            send_buffer.write(wire.window_update(0, limits.connection_window_bytes - wire.WINDOW_DEFAULT))

    def receive(self, kind: int, flags: int, payload: bytes) -> None:
        """Apply a frame on stream 0."""
        match kind:
            case wire.SETTINGS if flags & wire.ACK:
                if payload:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
                self._streams.blocks.forbid_table()
            case wire.SETTINGS:
                self._apply_settings(payload)
            case wire.PING:
                self._ping(flags, payload)
            case wire.WINDOW_UPDATE:
                self._send_buffer.increase_window(int.from_bytes(payload) & wire.WINDOW_MAX)
            case wire.GOAWAY:
                if len(payload) < _GOAWAY_BYTES_MIN:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY too short")
                self.drain()
            case wire.DATA | wire.HEADERS | wire.PRIORITY | wire.RST_STREAM | wire.PUSH_PROMISE | wire.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "frame type not permitted on stream 0")

    def drain(self) -> None:
        """Announce that no new streams are accepted, and send a PING to find the last one in flight."""
        if not self._is_draining:
            self._is_draining = True
            self._send_buffer.write(wire.goaway(wire.STREAM_ID_MASK, ErrorCode.NO_ERROR))
            self._send_buffer.write(wire.frame(wire.PING, 0, 0, _DRAIN_PING))

    def _ping(self, flags: int, payload: bytes) -> None:
        if not flags & wire.ACK:
            self._send_buffer.write(wire.frame(wire.PING, wire.ACK, 0, payload))
        elif self._is_draining and not self.is_closing and payload == _DRAIN_PING:
            self.is_closing = True
            self._streams.open_max = 0
            self._send_buffer.write(wire.goaway(self._streams.last_id, ErrorCode.NO_ERROR))

    def _apply_settings(self, payload: bytes) -> None:
        if len(payload) % _SETTING_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "wrong size of SETTINGS")
        if len(payload) > _SETTINGS_MAX * _SETTING_BYTES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many settings")
        window: int | None = None
        for name, value in wire.settings_in(payload):
            if name == wire.HEADER_TABLE_SIZE:
                self._send_buffer.set_table_size(value)
            elif name == wire.INITIAL_WINDOW_SIZE:
                if value > wire.WINDOW_MAX:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "initial window over its maximum")
                window = value  # of several, the last one counts
            elif (name == wire.ENABLE_PUSH and value > 1) or (
                name == wire.MAX_FRAME_SIZE and not wire.FRAME_BYTES_MAX <= value <= _FRAME_BYTES_LIMIT
            ):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "setting out of range")
        if window is not None:
            self._flood_guard.spend(self._send_buffer.set_initial_window(window) // _STREAMS_PER_NUISANCE)
        self.has_settings = True
        self._send_buffer.write(wire.frame(wire.SETTINGS, wire.ACK, 0))
