"""The bytes of a gRPC answer, with everything that never changes built once.

When a frame may leave is `outflow.py`. No block here touches the peer's dynamic table, so blocks can be constants.
"""

from dataclasses import dataclass
from struct import Struct
from urllib.parse import quote

from hpack.hpack import encode_integer

from authz.core.errors import GrpcCode
from authz.edge.h2.wire import DATA, END_HEADERS, END_STREAM, FRAME_HEAD, HEADERS, PREFIX_BYTES, frame

_OK = 200
_TEXT_CHARS_MAX = 1_024  # percent-encoded, twelve bytes a character, this still fits one frame
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_GRPC_PREFIX = Struct(">BI")  # compressed or not, message length


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that ends without a message: a gRPC status with a text for the caller, or a bare HTTP status."""

    status: int | None = None
    text: str = ""
    http: int = _OK
    fields: tuple[tuple[bytes, bytes], ...] = ()


UNCOMPRESSED_ONLY = Refusal(
    GrpcCode.UNIMPLEMENTED, "compression is not supported", fields=((b"grpc-accept-encoding", b"identity"),)
)


def _string(text: bytes) -> bytes:
    # Without Huffman (RFC 7541 section 5.2): constants gain nothing by it.
    return bytes(encode_integer(len(text), 7)) + text


def _field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _string(name) + _string(value)


_STATUS_200 = b"\x88"  # static table, entry 8
_STATUS = b"\x08"  # a value of its own for the name of entry 8
_CONTENT_TYPE = b"\x0f\x10" + _string(b"application/grpc")  # the name of entry 31
TABLE_SIZE_0 = b"\x20"
ANSWER_BLOCK = _STATUS_200 + _CONTENT_TYPE
TRAILERS_BLOCK = _field(b"grpc-status", b"0")

_ANSWER_HEAD = frame(HEADERS, END_HEADERS, 0, ANSWER_BLOCK)[:5]  # up to the stream id
_TRAILERS_HEAD = frame(HEADERS, END_HEADERS | END_STREAM, 0, TRAILERS_BLOCK)[:5]
_OPENING = Struct(f">5sI{len(ANSWER_BLOCK)}sIBIBI").pack
_CLOSING = Struct(f">5sI{len(TRAILERS_BLOCK)}s").pack


def opening(stream_id: int, size: int) -> bytes:
    """Build all that comes before a message of `size` bytes that fits one frame: HEADERS, and the head of its DATA."""
    return _OPENING(_ANSWER_HEAD, stream_id, ANSWER_BLOCK, size + PREFIX_BYTES << 8 | DATA, 0, stream_id, 0, size)


def closing(stream_id: int) -> bytes:
    """Build all that comes behind the message: the trailers."""
    return _CLOSING(_TRAILERS_HEAD, stream_id, TRAILERS_BLOCK)


def data_head(stream_id: int, size: int) -> bytes:
    """Build the head of a DATA frame of `size` bytes."""
    return FRAME_HEAD.pack(size << 8 | DATA, 0, stream_id)


def framed(message: bytes) -> bytes:
    """Put gRPC's prefix before a message."""
    return _GRPC_PREFIX.pack(0, len(message)) + message


def refusal_block(refusal: Refusal) -> bytes:
    """Build the header block of an answer that is over with its headers."""
    block = _STATUS_200 if refusal.http == _OK else _STATUS + _string(str(refusal.http).encode())
    if refusal.status is not None:
        text = quote(refusal.text[:_TEXT_CHARS_MAX], safe=_PRINTABLE).encode()
        block += (
            _CONTENT_TYPE + _field(b"grpc-status", str(int(refusal.status)).encode()) + _field(b"grpc-message", text)
        )
    return block + b"".join(_field(*field) for field in refusal.fields)
