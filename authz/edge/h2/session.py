"""What concerns a connection as a whole: settings, pings, its window, and how both sides take leave.

Streams are `streams.py`; this module only tells them what was agreed.
"""

from authz.edge.h2 import wire
from authz.edge.h2.limits import Limits
from authz.edge.h2.outflow import Outflow
from authz.edge.h2.streams import Streams
from authz.edge.h2.wire import ConnectionFault, ErrorCode

_DRAIN_PING = b"last one"
_SETTING_BYTES = 6
_GOAWAY_BYTES_MIN = 8
_FRAME_BYTES_LIMIT = 2**24 - 1


class Session:
    """The frames on stream 0.

    `is_settled` once the peer's settings have come, `is_leaving` once no new stream will be accepted.
    """

    __slots__ = ("_is_draining", "_outflow", "_streams", "is_leaving", "is_settled")

    def __init__(self, limits: Limits, outflow: Outflow, streams: Streams) -> None:
        """Write our own settings. A header table of size 0 is what lets `blocks.py` remember blocks."""
        self._outflow = outflow
        self._streams = streams
        self._is_draining = False
        self.is_leaving = False
        self.is_settled = False
        outflow.write(
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
            outflow.write(wire.window_update(0, limits.connection_window_bytes - wire.WINDOW_DEFAULT))

    def receive(self, kind: int, flags: int, payload: bytes) -> None:
        """Take a frame on stream 0."""
        match kind:
            case wire.SETTINGS if flags & wire.ACK:
                if payload:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "settings acknowledged with a payload")
                self._streams.blocks.forbid_table()
            case wire.SETTINGS:
                self._settle(payload)
            case wire.PING:
                self._ping(flags, payload)
            case wire.WINDOW_UPDATE:
                self._outflow.widen(int.from_bytes(payload) & wire.WINDOW_MAX)
            case wire.GOAWAY:
                if len(payload) < _GOAWAY_BYTES_MIN:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "goaway too short")
                self.drain()
            case wire.DATA | wire.HEADERS | wire.PRIORITY | wire.RST_STREAM | wire.PUSH_PROMISE | wire.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame that belongs on a stream")

    def drain(self) -> None:
        """Announce that no new streams are wanted, and find out which ones are under way."""
        if not self._is_draining:
            self._is_draining = True
            self._outflow.write(wire.goaway(wire.STREAM_ID_MASK, ErrorCode.NO_ERROR))
            self._outflow.write(wire.frame(wire.PING, 0, 0, _DRAIN_PING))

    def _ping(self, flags: int, payload: bytes) -> None:
        if not flags & wire.ACK:
            self._outflow.write(wire.frame(wire.PING, wire.ACK, 0, payload))
        elif self._is_draining and not self.is_leaving and payload == _DRAIN_PING:
            self.is_leaving = True
            self._streams.open_max = 0
            self._outflow.write(wire.goaway(self._streams.last_id, ErrorCode.NO_ERROR))

    def _settle(self, payload: bytes) -> None:
        if len(payload) % _SETTING_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "settings of the wrong size")
        for name, value in wire.settings_in(payload):
            if name == wire.HEADER_TABLE_SIZE:
                self._outflow.set_table_size(value)
            elif name == wire.INITIAL_WINDOW_SIZE:
                self._outflow.set_initial_window(value)
            elif (name == wire.ENABLE_PUSH and value > 1) or (
                name == wire.MAX_FRAME_SIZE and not wire.FRAME_BYTES_MAX <= value <= _FRAME_BYTES_LIMIT
            ):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a setting out of range")
        self.is_settled = True
        self._outflow.write(wire.frame(wire.SETTINGS, wire.ACK, 0))
