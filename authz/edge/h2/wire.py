"""HTTP/2 frames as bytes (RFC 9113 sections 4, 6, 7), and the two kinds of protocol errors.

The effects of a frame on a connection or a stream are in `session.py` and `streams.py`.
"""

from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD_BYTES = 9
FRAME_BYTES_MAX = 16_384  # the smallest permitted value of SETTINGS_MAX_FRAME_SIZE, and ours
WINDOW_DEFAULT = 65_535
WINDOW_MAX = 2**31 - 1
STREAM_ID_MASK = 2**31 - 1

# Plain integers: a comparison with an IntEnum costs more than parsing the frame.
DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

FRAME_HEAD = Struct(">IBI")  # length and type in one word, flags, stream id
FRAME_HEAD_READ = Struct(">BHHI")  # high byte of the length, its low bytes, type and flags in one word, stream id
PRIORITY_BYTES = 5
PREFIX_BYTES = 5  # gRPC message prefix: compressed flag and length
MESSAGE_HEAD_READ = Struct(FRAME_HEAD_READ.format + "BI")
_SETTING = Struct(">HI")
_WORD = Struct(">I")


class ErrorCode(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class ConnectionFault(Exception):  # noqa: N818 -- an error of the peer, not of this program
    """A connection error of the peer: GOAWAY with `code`, then close (RFC 9113 section 5.4.1)."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFault(Exception):  # noqa: N818 -- the same
    """A stream error of the peer: RST_STREAM with `code` on that stream only (RFC 9113 section 5.4.2)."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Serialise one frame."""
    return FRAME_HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings(values: dict[int, int]) -> bytes:
    """Serialise a SETTINGS frame from identifiers and values."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def settings_in(payload: bytes) -> list[tuple[int, int]]:
    """Parse identifiers and values, in order, from a payload of complete settings."""
    return list(_SETTING.iter_unpack(payload))


def window_update(stream_id: int, increment_bytes: int) -> bytes:
    """Serialise a WINDOW_UPDATE; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, _WORD.pack(increment_bytes))


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """Serialise a RST_STREAM."""
    return frame(RST_STREAM, 0, stream_id, _WORD.pack(code))


def goaway(last_stream_id: int, code: ErrorCode, text: str = "") -> bytes:
    """Serialise a GOAWAY; `text` is its debug data."""
    return frame(GOAWAY, 0, 0, _WORD.pack(last_stream_id) + _WORD.pack(code) + text.encode())


def unpadded(flags: int, payload: bytes) -> bytes:
    """Remove the padding of a DATA or HEADERS payload (RFC 9113 section 6.1)."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "padded frame without its pad length")
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - padding]


def without_priority(flags: int, payload: bytes) -> bytes:
    """Remove the priority field of an unpadded HEADERS payload: it is ignored, as RFC 9113 section 5.3.2 recommends."""
    if not flags & PRIORITISED:
        return payload
    if len(payload) < PRIORITY_BYTES:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS shorter than its priority field")
    return payload[PRIORITY_BYTES:]
