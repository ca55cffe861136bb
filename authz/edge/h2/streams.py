"""The streams of one connection: their states, and the effects of HEADERS, DATA and RST_STREAM.

Connection-level frames are in `session.py`. The two frames of an ordinary request are read in `connection.py`.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from authz.core.errors import GrpcCode
from authz.edge.h2.blocks import HeaderBlocks
from authz.edge.h2.call import Call, Method, verify_trailers
from authz.edge.h2.events import Cancelled, Ended, Event, Request
from authz.edge.h2.limits import FloodGuard, Limits, UploadBudget
from authz.edge.h2.responses import Refusal
from authz.edge.h2.send_buffer import SendBuffer
from authz.edge.h2.upload import Upload
from authz.edge.h2.wire import ConnectionFault, ErrorCode, StreamFault, rst_stream, window_update

_RESET_MAX = 1_024
_FIELDS_PER_NUISANCE = 32
_NUISANCES_PER_LATE_DATA = 4  # a frame that was on its way when the stream was reset
_BUSY = Refusal(GrpcCode.RESOURCE_EXHAUSTED, "too much data in incomplete requests")


class Phase(Enum):
    """The state of a stream whose request is complete."""

    AWAITING = 1  # the service has not responded yet
    ANSWERED = 2  # the response is blocked by the peer's windows


AWAITING: Final = Phase.AWAITING
ANSWERED: Final = Phase.ANSWERED


class Streams:
    """All open streams.

    `open` holds, by stream id: the call after its headers, the upload while the body arrives, then a phase.
    `window_bytes` is the remaining receive window of the connection. `open_max` is 0 when no new stream is accepted.
    """

    __slots__ = (
        "_expired_id",
        "_flood_guard",
        "_limits",
        "_reset",
        "_send_buffer",
        "_uploads",
        "blocks",
        "last_id",
        "open",
        "open_max",
        "upload_bytes",
        "window_bytes",
    )

    def __init__(
        self,
        limits: Limits,
        methods: Mapping[bytes, Method],
        send_buffer: SendBuffer,
        flood_guard: FloodGuard,
        uploads: UploadBudget | None = None,
    ) -> None:
        self.blocks = HeaderBlocks(methods, limits.header_list_bytes_max)
        self.open: dict[int, Call | Upload | Phase] = {}
        self.open_max = limits.streams_max
        self.last_id = 0
        self.window_bytes = limits.connection_window_bytes
        self._limits = limits
        self._send_buffer = send_buffer
        self._flood_guard = flood_guard
        self._uploads = uploads or UploadBudget(limits.upload_bytes_max, lambda _bytes: True)
        self._expired_id = 0
        self.upload_bytes = 0
        # The latest streams that we reset: frames that the peer sent before it read the reset are no protocol error.
        self._reset: dict[int, None] = {}

    def is_idle(self, stream_id: int) -> bool:
        """Return whether a stream was never opened."""
        return stream_id > self.last_id or stream_id % 2 == 0

    def headers(self, stream_id: int, block: bytes, events: list[Event], *, ends: bool) -> None:
        """Apply a complete header block: a new call, or the trailers of an open one."""
        if stream_id in self.open or stream_id in self._reset:
            fields = self.blocks.fields(block)
            if stream_id in self.open:
                self._trailers(stream_id, fields, events, ends=ends)
            return
        if stream_id <= self.last_id or stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "invalid stream id")
        self.last_id = stream_id
        call = self.blocks.call(block)
        if weight := self.blocks.fields_count // _FIELDS_PER_NUISANCE:
            self._flood_guard.spend(weight)
        if len(self.open) >= self.open_max:
            raise StreamFault(ErrorCode.REFUSED_STREAM, "too many streams")
        if call.refusal is not None:
            self._flood_guard.spend()
            self._send_buffer.refuse(stream_id, call.refusal)
            if not ends:
                self._reset_stream(stream_id, ErrorCode.NO_ERROR)
        elif ends:
            self._finish(stream_id, self._upload(call), events)
        else:
            self.open[stream_id] = call if call.is_plain else self._upload(call)

    def data(self, stream_id: int, data: bytes, size: int, events: list[Event], *, ends: bool) -> None:
        """Apply a DATA frame of `size` bytes including padding; `data` is its content."""
        self.window_bytes -= size
        if self.window_bytes < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded")
        if self.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "data on an idle stream")
        if not data and not ends:
            self._flood_guard.spend()
        state = self.open.get(stream_id)
        if state is None and stream_id in self._reset:
            self._flood_guard.spend(_NUISANCES_PER_LATE_DATA)
            return
        if state is None or isinstance(state, Phase):
            raise StreamFault(ErrorCode.STREAM_CLOSED, "data after the end")
        if isinstance(state, Call):
            state = self.open[stream_id] = self._upload(state)
        self._refill(stream_id, state, size)
        refusal = self._feed(stream_id, state, data, events)
        if refusal is not None:
            self._reject(stream_id, state, refusal, events, is_over=ends)
        elif ends:
            self._finish(stream_id, state, events)

    def reset(self, stream_id: int, events: list[Event]) -> None:
        """Remove a stream that the peer has reset."""
        if self.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "reset of an idle stream")
        self._remove(stream_id, events)

    def increase_window(self, stream_id: int, increment: int) -> None:
        """Increase the send window of a stream."""
        if self.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "window update on an idle stream")
        if stream_id in self.open:
            self._send_buffer.increase_stream_window(stream_id, increment)

    def fail(self, stream_id: int, code: ErrorCode, events: list[Event]) -> None:
        """Reset a stream because of a protocol error of the peer."""
        self._flood_guard.spend()
        self._reset_stream(stream_id, code)
        self._remove(stream_id, events)

    def expire(self, events: list[Event]) -> None:
        """Reset the streams that were open at the last call already and still wait for their peer.

        Streaming calls stay: their peer reports when it likes.
        """
        for stream_id in [each for each in self.open if each <= self._expired_id]:
            state = self.open[stream_id]
            is_streaming = isinstance(state, Upload) and state.is_streaming
            if state is not AWAITING and not is_streaming:
                self.fail(stream_id, ErrorCode.CANCEL, events)
        self._expired_id = self.last_id

    def abandon(self, events: list[Event]) -> None:
        """Remove all streams."""
        for stream_id in list(self.open):
            self._remove(stream_id, events)

    def respond(self, stream_id: int, message: bytes) -> bool:
        """Respond to a call with one message; return False where the stream is closed or has a response."""
        state = self.open.get(stream_id)
        if state is AWAITING:
            if self._send_buffer.answer(stream_id, message):
                del self.open[stream_id]
            else:
                self.open[stream_id] = ANSWERED
        elif isinstance(state, Upload) and not state.is_answered:
            # The stream stays open: messages that the peer sends before it reads the response are delivered.
            state.is_answered = True
            self._send_buffer.answer(stream_id, message)
        else:
            return False
        return True

    def respond_all(self, responses: Iterable[tuple[int, bytes]]) -> None:
        """Respond to several calls, each as `respond` does."""
        is_open, answer = self.open, self._send_buffer.answer
        for stream_id, message in responses:
            if is_open.get(stream_id) is not AWAITING:
                self.respond(stream_id, message)
            elif answer(stream_id, message):
                del is_open[stream_id]
            else:
                is_open[stream_id] = ANSWERED

    def refuse(self, stream_id: int, refusal: Refusal) -> None:
        """Respond to a call without a message; ignore a stream that is closed or has a response."""
        state = self.open.get(stream_id)
        if state is AWAITING or (isinstance(state, Upload) and not state.is_answered):
            self._send_buffer.refuse(stream_id, refusal)
            self._complete(stream_id)

    def flush(self) -> None:
        """Write blocked responses as far as the peer's windows permit."""
        for stream_id in self._send_buffer.flush():
            if self.open[stream_id] is ANSWERED:
                del self.open[stream_id]

    def _complete(self, stream_id: int) -> None:
        if isinstance(state := self.open.pop(stream_id), Upload):
            self._hold(-state.buffered_bytes)
            # The response is complete; the rest of the request is not needed (RFC 9113 section 8.1).
            self._reset_stream(stream_id, ErrorCode.NO_ERROR)

    def _remove(self, stream_id: int, events: list[Event]) -> None:
        state = self.open.pop(stream_id, None)
        self._send_buffer.drop(stream_id)
        if isinstance(state, Upload):
            self._hold(-state.buffered_bytes)
        if state is AWAITING or (isinstance(state, Upload) and state.is_streaming and not state.is_answered):
            events.append(Cancelled(stream_id))
        elif isinstance(state, Upload) and state.is_streaming:
            events.append(Ended(stream_id))

    def _reset_stream(self, stream_id: int, code: ErrorCode) -> None:
        self._send_buffer.write(rst_stream(stream_id, code))
        self._reset[stream_id] = None
        if len(self._reset) > _RESET_MAX:
            del self._reset[next(iter(self._reset))]

    def _upload(self, call: Call) -> Upload:
        return Upload(call, self._limits.message_bytes_max)

    def _refill(self, stream_id: int, upload: Upload, size: int) -> None:
        # At half a window, which is more than one frame, so the peer never exceeds the credit it has.
        upload.used_bytes += size
        if upload.used_bytes > self._limits.stream_window_bytes // 2:
            self._send_buffer.write(window_update(stream_id, upload.used_bytes))
            upload.used_bytes = 0

    def _feed(self, stream_id: int, upload: Upload, data: bytes, events: list[Event]) -> Refusal | None:
        before = upload.buffered_bytes
        try:
            outcome = upload.feed(data)
        finally:
            self._hold(upload.buffered_bytes - before)
        if isinstance(outcome, Refusal):
            return outcome
        events.extend(Request(stream_id, upload.call, message) for message in outcome)
        if self.upload_bytes > self._flood_guard.upload_bytes_max or self._uploads.refuses(self.upload_bytes):
            self._flood_guard.spend()
            return _BUSY
        return None

    def _hold(self, count: int) -> None:
        self.upload_bytes += count
        self._uploads.used_bytes += count

    def _finish(self, stream_id: int, upload: Upload, events: list[Event]) -> None:
        if upload.is_answered:
            self._hold(-upload.buffered_bytes)
            events.append(Ended(stream_id))
            if self._send_buffer.holds(stream_id):
                self.open[stream_id] = ANSWERED
            else:
                del self.open[stream_id]
            return
        outcome = upload.finish()
        if isinstance(outcome, Refusal):
            self._reject(stream_id, upload, outcome, events, is_over=True)
            return
        self._hold(-upload.buffered_bytes)
        self.open[stream_id] = AWAITING
        events.append(Ended(stream_id) if outcome is None else Request(stream_id, upload.call, outcome))

    def _reject(self, stream_id: int, upload: Upload, refusal: Refusal, events: list[Event], *, is_over: bool) -> None:
        self.open[stream_id] = upload
        if not upload.is_answered:
            self._send_buffer.refuse(stream_id, refusal)
        if not is_over:
            self._reset_stream(stream_id, ErrorCode.NO_ERROR)
        self._remove(stream_id, events)

    def _trailers(self, stream_id: int, fields: list[tuple[bytes, bytes]], events: list[Event], *, ends: bool) -> None:
        state = self.open[stream_id]
        if isinstance(state, Phase):
            raise StreamFault(ErrorCode.STREAM_CLOSED, "headers after the end")
        if not ends:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers without END_STREAM")
        verify_trailers(fields)
        self._finish(stream_id, self._upload(state) if isinstance(state, Call) else state, events)
