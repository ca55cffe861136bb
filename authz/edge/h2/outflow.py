"""What leaves a connection: frames ready to be written, and answers that wait for the peer's windows.

Whether a stream is still there to be answered is known to `streams.py`.
"""

from authz.edge.h2.answers import (
    ANSWER_BLOCK,
    TABLE_SIZE_0,
    TRAILERS_BLOCK,
    Refusal,
    closing,
    data_head,
    framed,
    opening,
    refusal_block,
)
from authz.edge.h2.wire import (
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


class Outflow:
    """The sending half of one connection (RFC 9113 section 5.2).

    A stream's window is kept as its distance from the initial one, so that a change of the initial window changes all
    of them at once, below zero if need be, and an ordinary stream needs no entry. DATA leaves in frames of at most
    16,384 bytes, which every peer accepts.
    """

    __slots__ = (
        "_credit",
        "_initial",
        "_must_shrink",
        "_plain_bytes_max",
        "_ready",
        "_table_size",
        "_waiting",
        "_window",
    )

    def __init__(self) -> None:
        self._ready: list[bytes] = []
        self._waiting: dict[int, memoryview] = {}
        self._window = WINDOW_DEFAULT
        self._initial = WINDOW_DEFAULT
        self._credit: dict[int, int] = {}
        self._table_size = _TABLE_SIZE_DEFAULT
        self._must_shrink = False
        # The longest answer that needs no further look at all this.
        self._set_plain()

    @property
    def is_waiting(self) -> bool:
        """Tell whether an answer waits for the peer's windows."""
        return bool(self._waiting)

    def write(self, data: bytes) -> None:
        """Add a frame that no window holds back."""
        self._ready.append(data)

    def take(self) -> bytes:
        """Return all that may be written, and forget it."""
        data = b"".join(self._ready)
        self._ready.clear()
        return data

    def answer(self, stream_id: int, message: bytes) -> bool:
        """Write an answer, as much of it as the windows allow; tell whether that was all."""
        size = len(message) + PREFIX_BYTES
        if size <= self._window and size <= self._plain_bytes_max and stream_id not in self._credit:
            self._window -= size
            self._ready += (opening(stream_id, len(message)), message, closing(stream_id))
            return True
        self._write_block(stream_id, END_HEADERS, ANSWER_BLOCK)
        self._waiting[stream_id] = memoryview(framed(message))
        return self._send(stream_id)

    def refuse(self, stream_id: int, refusal: Refusal) -> None:
        """Write an answer that is over with its headers."""
        self._write_block(stream_id, END_HEADERS | END_STREAM, refusal_block(refusal))
        self._credit.pop(stream_id, None)

    def drop(self, stream_id: int) -> None:
        """Forget a stream that was reset."""
        self._waiting.pop(stream_id, None)
        self._credit.pop(stream_id, None)

    def holds(self, stream_id: int) -> bool:
        """Tell whether a stream's answer waits for the peer's windows."""
        return stream_id in self._waiting

    def flush(self) -> list[int]:
        """Send what the windows now allow; return the streams whose answers are complete."""
        return [stream_id for stream_id in list(self._waiting) if self._window > 0 and self._send(stream_id)]

    def widen(self, increment: int) -> None:
        """Enlarge the connection's window (RFC 9113 section 6.9)."""
        if not increment:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "window update of 0")
        self._window += increment
        if self._window > WINDOW_MAX:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window over its maximum")

    def widen_stream(self, stream_id: int, increment: int) -> None:
        """Enlarge one stream's window."""
        if not increment:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "window update of 0")
        credit = self._credit.get(stream_id, 0) + increment
        if self._initial + credit > WINDOW_MAX:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window over its maximum")
        self._credit[stream_id] = credit

    def set_initial_window(self, size: int) -> None:
        """Change every stream's window by the difference (RFC 9113 section 6.9.2)."""
        if size > WINDOW_MAX or size + max(self._credit.values(), default=0) > WINDOW_MAX:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "initial window over its maximum")
        self._initial = size
        self._set_plain()

    def set_table_size(self, size: int) -> None:
        """Obey a smaller dynamic table by giving ours up for good, in the next block (RFC 9113 section 4.3.1)."""
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
        if sent == len(rest):
            self.drop(stream_id)
            self._write_block(stream_id, END_HEADERS | END_STREAM, TRAILERS_BLOCK)
            return True
        self._waiting[stream_id] = rest[sent:]
        self._credit[stream_id] = credit - sent
        return False
