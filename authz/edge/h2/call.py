"""The meaning of the header fields of a gRPC request: its method, its timeout, and what must be refused.

The encoding of fields is in `blocks.py`. RFC 9113 section 8 defines malformed requests, the gRPC protocol refused ones
(https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from hpack import HPACKError
from hpack.huffman_table import decode_huffman

from authz.core.errors import GrpcCode
from authz.edge.h2.responses import UNCOMPRESSED_ONLY, Refusal
from authz.edge.h2.wire import ErrorCode, StreamFault

Fields: TypeAlias = Iterable[tuple[bytes, bytes]]

TRACE = b"traceparent"
# All fields whose value is read. Other values do not change the call.
READ = frozenset(
    {b":method", b":scheme", b":path", b":authority", b"host", b"te", b"content-type", b"content-length"}
    | {b"grpc-timeout", b"grpc-encoding"}
)
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
# RFC 9113 section 8.2.2: these are specific to an HTTP/1.1 connection.
_FORBIDDEN = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?![ \t])[^\0\r\n]*(?<![ \t])")
_CONTENT_TYPE = re.compile(rb"application/grpc(\+proto)?( *;.*)?")
_CONTENT_LENGTH = re.compile(rb"[0-9]{1,15}")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_HUFFMAN = 0x80  # in the length of a string that is coded
_SHORT = 127  # a shorter string has a length of one byte (RFC 7541 section 5.1)


@dataclass(frozen=True, slots=True)
class Method:
    """A gRPC method of this server: its path `/package.Service/Method`, and whether its client streams messages."""

    path: str
    client_streaming: bool = False


def _ends(text: bytes, codes: int) -> frozenset[bytes]:
    """Return the last three bytes of every encoded text with this end: plain, or Huffman codes and padding."""
    ends = {text}
    for padding in range(8):
        tail = (codes << padding) | ((1 << padding) - 1)
        ends |= {((before << (16 + padding)) | tail).to_bytes(3) for before in range(1 << (8 - padding))}
    return frozenset(ends)


# RFC 7541, appendix B
_UNSAMPLED, _SAMPLED = _ends(b"-00", 0b010110_00000_00000), _ends(b"-01", 0b010110_00000_00001)
_ODD = "13579bdf"


@dataclass(slots=True, eq=False)
class Call:
    """The headers of one request.

    `method` is None only with a `refusal`. `timeout_s` starts at the arrival of the headers; None means no timeout.
    `trace` is the encoded trace context, with its length; `is_sampled` tells whether that says so. Not frozen: with
    tracing each request creates one, and creating a frozen one takes three times as long.
    """

    method: Method | None
    timeout_s: float | None = None
    trace: bytes = b""
    content_length: int | None = None
    refusal: Refusal | None = None
    is_sampled: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether this is an ordinary unary call: no refusal, one message in each direction."""
        return self.refusal is None and self.method is not None and not self.method.client_streaming

    @property
    def traceparent(self) -> str:
        """The W3C trace context of the caller, or an empty text. Decoded on use, because few are read."""
        return _decoded(self.trace)


def sampled(trace: bytes) -> bool:
    """Return whether an encoded trace context has the flag (https://www.w3.org/TR/trace-context/#sampled-flag).

    Nearly all have not, which shows in the last bytes.
    """
    end = trace[-3:]
    if end in _UNSAMPLED:
        return False
    if end in _SAMPLED:
        return True
    flags = _decoded(trace)[-2:]
    return len(flags) == 2 and flags.isalnum() and flags.isascii() and flags[1] in _ODD  # noqa: PLR2004 -- hex digits


def _decoded(trace: bytes) -> str:
    if not trace:
        return ""
    value = trace[1:]
    if trace[0] & _HUFFMAN:
        try:
            value = decode_huffman(value)
        except HPACKError:
            return ""
    return value.decode("ascii", "replace") if len(value) < _SHORT else ""


def call_from(fields: Fields, methods: Mapping[bytes, Method]) -> Call:
    """Read the fields of a request; raises `StreamFault` where they are malformed (RFC 9113 section 8.1.1)."""
    found = _collect(fields)
    if not (found.get(b":method") and found.get(b":scheme") and found.get(b":path")):
        raise _malformed("missing pseudo-header")
    authority = found.get(b":authority")
    if authority is not None and found.get(b"host", authority) != authority:
        raise _malformed("host contradicts :authority")
    if found.get(b"te", b"trailers") != b"trailers":
        raise _malformed("te must be trailers")
    length = found.get(b"content-length")
    if length is not None and not _CONTENT_LENGTH.fullmatch(length):
        raise _malformed("content-length is not a number")
    timeout = _TIMEOUT.fullmatch(found.get(b"grpc-timeout", b""))
    context = found.get(TRACE, b"")
    trace = bytes([len(context)]) + context if 0 < len(context) < _SHORT else b""
    return Call(
        method=methods.get(found[b":path"]),
        timeout_s=int(timeout[1]) * _UNIT_S[timeout[2]] if timeout else None,
        trace=trace,
        content_length=None if length is None else int(length),
        refusal=_refusal(found, methods),
        is_sampled=sampled(trace),
    )


def verify_trailers(fields: Fields) -> None:
    """Raise `StreamFault` where the trailers of a request are malformed."""
    for name, value in fields:
        if name.startswith(b":"):
            raise _malformed("pseudo-header in trailers")
        _verify(name, value)


def _collect(fields: Fields) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    is_regular = False
    for name, value in fields:
        if not name.startswith(b":"):
            is_regular = True
        elif is_regular or name not in _PSEUDO:
            raise _malformed("unknown or late pseudo-header")
        _verify(name, value)
        if name in found and name in READ:
            raise _malformed("repeated field")
        found.setdefault(name, value)
    return found


def _verify(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name) or name in _FORBIDDEN:
        raise _malformed("field name not permitted")
    if not _VALUE.fullmatch(value):
        raise _malformed("field value not permitted")


def _refusal(found: dict[bytes, bytes], methods: Mapping[bytes, Method]) -> Refusal | None:
    if found[b":method"] != b"POST":
        return Refusal(http=405)
    if not _CONTENT_TYPE.fullmatch(found.get(b"content-type", b"")):
        return Refusal(http=415)
    if found.get(b"grpc-encoding", b"identity") != b"identity":
        return UNCOMPRESSED_ONLY
    if found[b":path"] not in methods:
        return Refusal(GrpcCode.UNIMPLEMENTED, "unknown method")
    if not _TIMEOUT.fullmatch(found.get(b"grpc-timeout", b"0n")):
        return Refusal(GrpcCode.INTERNAL, "grpc-timeout is not a timeout")
    return None


def _malformed(text: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, text)
