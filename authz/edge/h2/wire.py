"""HTTP/2 frames as bytes (RFC 9113 sections 4, 6, 7), and the two ways a peer can break the protocol.

What a frame means for a connection or a stream is not decided here.
"""

from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD_BYTES = 9
FRAME_BYTES_MAX = 16_384  # the smallest a peer may be held to, and what we hold ours to
WINDOW_DEFAULT = 65_535
WINDOW_MAX = 2**31 - 1
STREAM_ID_MASK = 2**31 - 1

# Plain integers, because an IntEnum costs more to compare than the frame it names costs to read.
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
FRAME_HEAD_READ = Struct(">BHHI")  # the length's high byte, the rest of it, type and flags in one word, stream id
PREFIX_BYTES = 5  # of gRPC, before a message: compressed or not, and its length
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


class ConnectionFault(Exception):  # noqa: N818 -- a fault of the peer's, not an error of ours
    """The peer broke the connection's rules: GOAWAY with `code`, then nothing more (RFC 9113 section 5.4.1)."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFault(Exception):  # noqa: N818 -- the same
    """The peer broke one stream's rules: RST_STREAM with `code` on that stream alone (RFC 9113 section 5.4.2)."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Build one frame."""
    return FRAME_HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings(values: dict[int, int]) -> bytes:
    """Build a SETTINGS frame from identifiers and values."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def settings_in(payload: bytes) -> list[tuple[int, int]]:
    """Read identifiers and values, in order, from a payload of whole settings."""
    return list(_SETTING.iter_unpack(payload))


def window_update(stream_id: int, increment_bytes: int) -> bytes:
    """Build a WINDOW_UPDATE; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, _WORD.pack(increment_bytes))


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """Build a RST_STREAM."""
    return frame(RST_STREAM, 0, stream_id, _WORD.pack(code))


def goaway(last_stream_id: int, code: ErrorCode, text: str = "") -> bytes:
    """Build a GOAWAY; `text` is its debug data."""
    return frame(GOAWAY, 0, 0, _WORD.pack(last_stream_id) + _WORD.pack(code) + text.encode())


def unpadded(flags: int, payload: bytes) -> bytes:
    """Strip the padding of a DATA or HEADERS payload (RFC 9113 section 6.1)."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "padded frame without its pad length")
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - padding]
