"""The bytes of a gRPC response; constant parts are serialised once.

Flow control is in `send_buffer.py`. No header block here uses the dynamic table, so blocks can be constants.
"""

from dataclasses import dataclass
from struct import Struct
from urllib.parse import quote

from hpack.hpack import encode_integer

from authz.core.errors import GrpcCode
from authz.edge.h2.wire import DATA, END_HEADERS, END_STREAM, FRAME_HEAD, HEADERS, frame

_OK = 200
_TEXT_CHARS_MAX = 1_024  # percent-encoded, at most 12 bytes a character, this fits one frame
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_GRPC_PREFIX = Struct(">BI")  # compressed flag, message length


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response without a message: a gRPC status with a text for the caller, or an HTTP status alone."""

    status: int | None = None
    text: str = ""
    http: int = _OK
    fields: tuple[tuple[bytes, bytes], ...] = ()


UNCOMPRESSED_ONLY = Refusal(
    GrpcCode.UNIMPLEMENTED, "compression is not supported", fields=((b"grpc-accept-encoding", b"identity"),)
)


def _string(text: bytes) -> bytes:
    # Without Huffman coding (RFC 7541 section 5.2), which saves nothing for constants.
    return bytes(encode_integer(len(text), 7)) + text


def _field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _string(name) + _string(value)


_STATUS_200 = b"\x88"  # static table, entry 8
_STATUS = b"\x08"  # literal value, name of entry 8
_CONTENT_TYPE = b"\x0f\x10" + _string(b"application/grpc")  # name of entry 31
TABLE_SIZE_0 = b"\x20"
RESPONSE_BLOCK = _STATUS_200 + _CONTENT_TYPE
TRAILERS_BLOCK = _field(b"grpc-status", b"0")

RESPONSE_HEAD = frame(HEADERS, END_HEADERS, 0, RESPONSE_BLOCK)[:5]  # up to the stream id
TRAILERS_HEAD = frame(HEADERS, END_HEADERS | END_STREAM, 0, TRAILERS_BLOCK)[:5]
PACK_START = Struct(f">5sI{len(RESPONSE_BLOCK)}sIBIBI").pack
"""Serialises what precedes a message that fits one frame: RESPONSE_HEAD, the stream id, RESPONSE_BLOCK, then the header
of the DATA frame (its size and type, 0, the stream id) and the gRPC prefix (0, the size of the message)."""

PACK_END = Struct(f">5sI{len(TRAILERS_BLOCK)}s").pack
"""Serialises what follows it: TRAILERS_HEAD, the stream id, TRAILERS_BLOCK."""


def data_head(stream_id: int, size: int) -> bytes:
    """Serialise the header of a DATA frame of `size` bytes."""
    return FRAME_HEAD.pack(size << 8 | DATA, 0, stream_id)


def with_grpc_prefix(message: bytes) -> bytes:
    """Prepend the gRPC prefix to a message."""
    return _GRPC_PREFIX.pack(0, len(message)) + message


def refusal_block(refusal: Refusal) -> bytes:
    """Serialise the header block of a response that consists of headers only."""
    block = _STATUS_200 if refusal.http == _OK else _STATUS + _string(str(refusal.http).encode())
    if refusal.status is not None:
        text = quote(refusal.text[:_TEXT_CHARS_MAX], safe=_PRINTABLE).encode()
        block += (
            _CONTENT_TYPE + _field(b"grpc-status", str(int(refusal.status)).encode()) + _field(b"grpc-message", text)
        )
    return block + b"".join(_field(*field) for field in refusal.fields)
