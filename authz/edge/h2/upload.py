"""A request body of more than one frame or message: gRPC framing and its limits.

The ordinary request, one message in one frame, does not use this module.
"""

from authz.core.errors import GrpcCode
from authz.edge.h2.call import Call
from authz.edge.h2.responses import UNCOMPRESSED_ONLY, Refusal
from authz.edge.h2.wire import PREFIX_BYTES, ErrorCode, StreamFault

_TRUNCATED = Refusal(GrpcCode.INTERNAL, "the request ended within a message")
_TOO_LARGE = Refusal(GrpcCode.RESOURCE_EXHAUSTED, "message too large")
_NOT_ONE = Refusal(GrpcCode.UNIMPLEMENTED, "the method takes exactly one message")


class Upload:
    """The body of one open request.

    `used_bytes` counts bytes received since the last WINDOW_UPDATE for the stream. `is_answered` marks a streaming call
    that has its response before its end: the response asks the peer to stop, and earlier messages are delivered.
    """

    __slots__ = ("_buffer", "_message_bytes_max", "_received_bytes", "call", "is_answered", "used_bytes")

    def __init__(self, call: Call, message_bytes_max: int) -> None:
        self.call = call
        self.used_bytes = 0
        self.is_answered = False
        self._buffer = bytearray()
        self._received_bytes = 0
        self._message_bytes_max = message_bytes_max

    @property
    def is_streaming(self) -> bool:
        """Whether each message is delivered when it is complete."""
        return self.call.method is not None and self.call.method.client_streaming

    @property
    def buffered_bytes(self) -> int:
        """The number of buffered bytes."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes] | Refusal:
        """Append a part of the body; return the complete messages of a streaming call, or the reason to refuse.

        Raises `StreamFault` where the body is longer than its content-length.
        """
        self._received_bytes += len(data)
        if self.call.content_length is not None and self._received_bytes > self.call.content_length:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "more data than content-length")
        self._buffer += data
        return self._streamed() if self.is_streaming else self._single()

    def finish(self) -> bytes | Refusal | None:
        """End the body; return the message of a unary call, or None for a streaming call.

        Raises `StreamFault` where the body is shorter than its content-length.
        """
        if self.call.content_length not in (None, self._received_bytes):
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "less data than content-length")
        if self.is_streaming:
            return _TRUNCATED if self._buffer else None
        if not self._buffer:
            return _NOT_ONE
        if len(self._buffer) < PREFIX_BYTES or len(self._buffer) != PREFIX_BYTES + self._length(0):
            return _TRUNCATED
        return bytes(self._buffer[PREFIX_BYTES:])

    def _single(self) -> list[bytes] | Refusal:
        refusal = self._fault(0)
        if refusal is None and len(self._buffer) > PREFIX_BYTES + self._length(0):
            return _NOT_ONE
        return refusal or []

    def _streamed(self) -> list[bytes] | Refusal:
        messages = []
        start = 0
        while True:
            refusal = self._fault(start)
            if refusal is not None:
                return refusal
            stop = start + PREFIX_BYTES + self._length(start)
            if stop > len(self._buffer) or start + PREFIX_BYTES > len(self._buffer):
                break
            messages.append(bytes(self._buffer[start + PREFIX_BYTES : stop]))
            start = stop
        del self._buffer[:start]
        return messages

    def _fault(self, start: int) -> Refusal | None:
        if start < len(self._buffer) and self._buffer[start]:
            return UNCOMPRESSED_ONLY
        return _TOO_LARGE if self._length(start) > self._message_bytes_max else None

    def _length(self, start: int) -> int:
        # An incomplete prefix gives a number that is too small; every caller also compares the buffered bytes.
        return int.from_bytes(self._buffer[start + 1 : start + PREFIX_BYTES])
