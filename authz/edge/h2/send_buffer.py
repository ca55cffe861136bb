"""The send buffer of a connection: frames ready to write, and responses blocked by the peer's windows.

The state of each stream is in `streams.py`.
"""

from authz.edge.h2.responses import (
    PACK_END,
    PACK_START,
    RESPONSE_BLOCK,
    RESPONSE_HEAD,
    TABLE_SIZE_0,
    TRAILERS_BLOCK,
    TRAILERS_HEAD,
    Refusal,
    data_head,
    refusal_block,
    with_grpc_prefix,
)
from authz.edge.h2.wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    HEADERS,
    PREFIX_BYTES,
    WINDOW_DEFAULT,
    WINDOW_MAX,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    frame,
)

_TABLE_SIZE_DEFAULT = 4_096


class SendBuffer:
    """The sending half of one connection (RFC 9113 section 5.2).

    A stream's window is stored as the difference to the initial window. So a change of the initial window applies to
    all streams at once, even below zero, and an ordinary stream needs no entry. DATA frames have at most 16,384 bytes,
    which every peer accepts.
    """

    __slots__ = (
        "_credit",
        "_initial",
        "_must_shrink",
        "_plain_bytes_max",
        "_ready",
        "_sendable",
        "_table_size",
        "_waiting",
        "_window",
        "waiting_bytes",
    )

    def __init__(self) -> None:
        self._ready: list[bytes] = []
        self._waiting: dict[int, memoryview] = {}
        self._sendable: dict[int, None] = {}  # those of them that their own window does not block
        self.waiting_bytes = 0
        self._window = WINDOW_DEFAULT
        self._initial = WINDOW_DEFAULT
        self._credit: dict[int, int] = {}
        self._table_size = _TABLE_SIZE_DEFAULT
        self._must_shrink = False
        # The longest response that needs no further check of this state.
        self._set_plain()

    @property
    def is_waiting(self) -> bool:
        """Whether a response is blocked by the peer's windows."""
        return bool(self._waiting)

    @property
    def is_sendable(self) -> bool:
        """Whether `flush` may send some of a blocked response."""
        return bool(self._sendable) and self._window > 0

    def write(self, data: bytes) -> None:
        """Append a frame that is not subject to flow control."""
        self._ready.append(data)

    def take(self) -> bytes:
        """Return all bytes that may be written, and clear the buffer."""
        data = b"".join(self._ready)
        self._ready.clear()
        return data

    def answer(self, stream_id: int, message: bytes) -> bool:
        """Write as much of a response as the windows permit; return whether it is complete."""
        size = len(message) + PREFIX_BYTES
        if size <= self._window and size <= self._plain_bytes_max and stream_id not in self._credit:
            self._window -= size
            self._ready += (
                PACK_START(
                    RESPONSE_HEAD, stream_id, RESPONSE_BLOCK, size << 8 | DATA, 0, stream_id, 0, size - PREFIX_BYTES
                ),
                message,
                PACK_END(TRAILERS_HEAD, stream_id, TRAILERS_BLOCK),
            )
            return True
        self._write_block(stream_id, END_HEADERS, RESPONSE_BLOCK)
        self._waiting[stream_id] = memoryview(with_grpc_prefix(message))
        self.waiting_bytes += size
        return self._send(stream_id)

    def refuse(self, stream_id: int, refusal: Refusal) -> None:
        """Write a response that consists of headers only."""
        self._write_block(stream_id, END_HEADERS | END_STREAM, refusal_block(refusal))
        self._credit.pop(stream_id, None)

    def drop(self, stream_id: int) -> None:
        """Discard the state of a stream that was reset."""
        rest = self._waiting.pop(stream_id, None)
        if rest is not None:
            self.waiting_bytes -= len(rest)
            self._sendable.pop(stream_id, None)
        self._credit.pop(stream_id, None)

    def holds(self, stream_id: int) -> bool:
        """Return whether the response of a stream is blocked by the peer's windows."""
        return stream_id in self._waiting

    def flush(self) -> list[int]:
        """Write what the windows now permit; return the streams whose responses are complete."""
        complete = []
        while self.is_sendable:  # each turn sends something, or finds a stream's window used up
            stream_id = next(iter(self._sendable))
            del self._sendable[stream_id]
            if self._send(stream_id):
                complete.append(stream_id)
        return complete

    def increase_window(self, increment: int) -> None:
        """Increase the connection's window (RFC 9113 section 6.9)."""
        if not increment:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "window update of 0")
        self._window += increment
        if self._window > WINDOW_MAX:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window over its maximum")

    def increase_stream_window(self, stream_id: int, increment: int) -> None:
        """Increase one stream's window."""
        if not increment:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "window update of 0")
        credit = self._credit.get(stream_id, 0) + increment
        if self._initial + credit > WINDOW_MAX:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window over its maximum")
        self._credit[stream_id] = credit
        if self._initial + credit > 0 and stream_id in self._waiting:
            self._sendable[stream_id] = None

    def set_initial_window(self, size: int) -> int:
        """Change the window of every stream by the difference (RFC 9113 section 6.9.2).

        Return how many streams have a window of their own: the cost of the call.
        """
        if size > WINDOW_MAX or size + max(self._credit.values(), default=0) > WINDOW_MAX:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "initial window over its maximum")
        self._initial = size
        self._set_plain()
        credits_ = self._credit
        self._sendable = {stream_id: None for stream_id in self._waiting if size + credits_.get(stream_id, 0) > 0}
        return len(credits_) + len(self._waiting)

    def set_table_size(self, size: int) -> None:
        """Accept a smaller dynamic table by setting ours to 0 in the next header block (RFC 9113 section 4.3.1)."""
        if size < self._table_size:
            self._table_size = 0
            self._must_shrink = True
            self._set_plain()

    def _set_plain(self) -> None:
        self._plain_bytes_max = 0 if self._must_shrink else min(self._initial, FRAME_BYTES_MAX)

    def _write_block(self, stream_id: int, flags: int, block: bytes) -> None:
        if self._must_shrink:
            self._must_shrink = False
            self._set_plain()
            block = TABLE_SIZE_0 + block
        self._ready.append(frame(HEADERS, flags, stream_id, block))

    def _send(self, stream_id: int) -> bool:
        rest = self._waiting[stream_id]
        credit = self._credit.get(stream_id, 0)
        allowed = min(self._window, self._initial + credit)
        sent = 0
        while sent < len(rest) and allowed > sent:
            size = min(len(rest) - sent, allowed - sent, FRAME_BYTES_MAX)
            self._ready.append(data_head(stream_id, size) + rest[sent : sent + size])
            sent += size
        self._window -= sent
        self.waiting_bytes -= sent
        if sent == len(rest):
            self._waiting[stream_id] = rest[:0]
            self.drop(stream_id)
            self._write_block(stream_id, END_HEADERS | END_STREAM, TRAILERS_BLOCK)
            return True
        self._waiting[stream_id] = rest[sent:]
        self._credit[stream_id] = credit - sent
        if self._initial + credit > sent:  # only the connection's window blocks it
            self._sendable[stream_id] = None
        return False
