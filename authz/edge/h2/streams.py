"""The streams of one connection: what each is up to, and what HEADERS, DATA and RST_STREAM mean for it.

What concerns the connection as a whole is `session.py`; the ordinary request passes by in `connection.py`.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from authz.core.errors import GrpcCode
from authz.edge.h2.answers import Refusal
from authz.edge.h2.blocks import HeaderBlocks
from authz.edge.h2.call import Call, Method, verify_trailers
from authz.edge.h2.events import Cancelled, Ended, Event, Request
from authz.edge.h2.limits import Limits, Patience
from authz.edge.h2.outflow import Outflow
from authz.edge.h2.upload import Upload
from authz.edge.h2.wire import ConnectionFault, ErrorCode, StreamFault, rst_stream, window_update

_RESET_MAX = 1_024
_BUSY = Refusal(GrpcCode.RESOURCE_EXHAUSTED, "too much data in incomplete requests")


class Phase(Enum):
    """Where a stream is whose request is complete."""

    AWAITING = 1  # the service owes the answer
    ANSWERED = 2  # the answer waits for the peer's windows


AWAITING: Final = Phase.AWAITING
ANSWERED: Final = Phase.ANSWERED


class Streams:
    """All open streams.

    `open` holds, by stream id, the call while only its headers have come, the upload while the body is coming, and a
    phase from then on. `window_bytes` is what the peer may still send on the connection; `open_max` is 0 once no new
    stream is welcome.
    """

    __slots__ = (
        "_held_bytes",
        "_limits",
        "_outflow",
        "_patience",
        "_reset",
        "blocks",
        "last_id",
        "open",
        "open_max",
        "window_bytes",
    )

    def __init__(self, limits: Limits, methods: Mapping[bytes, Method], outflow: Outflow, patience: Patience) -> None:
        self.blocks = HeaderBlocks(methods, limits.header_list_bytes_max)
        self.open: dict[int, Call | Upload | Phase] = {}
        self.open_max = limits.streams_max
        self.last_id = 0
        self.window_bytes = limits.connection_window_bytes
        self._limits = limits
        self._outflow = outflow
        self._patience = patience
        self._held_bytes = 0
        # Streams we reset, the latest only: what the peer sent before it knew is no fault of its.
        self._reset: dict[int, None] = {}

    def is_idle(self, stream_id: int) -> bool:
        """Tell whether a stream was never opened."""
        return stream_id > self.last_id or stream_id % 2 == 0

    def headers(self, stream_id: int, block: bytes, events: list[Event], *, ends: bool) -> None:
        """Take a whole header block: a new call, or the trailers of one."""
        if stream_id in self.open or stream_id in self._reset:
            fields = self.blocks.fields(block)
            if stream_id in self.open:
                self._trailers(stream_id, fields, events, ends=ends)
            return
        if stream_id <= self.last_id or stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream id that cannot be opened")
        self.last_id = stream_id
        call = self.blocks.call(block)
        if len(self.open) >= self.open_max:
            raise StreamFault(ErrorCode.REFUSED_STREAM, "too many streams")
        if call.refusal is not None:
            self._outflow.refuse(stream_id, call.refusal)
            if not ends:
                self._stop(stream_id, ErrorCode.NO_ERROR)
        elif ends:
            self._finish(stream_id, self._upload(call), events)
        else:
            self.open[stream_id] = call if call.is_plain else self._upload(call)

    def data(self, stream_id: int, data: bytes, size: int, events: list[Event], *, ends: bool) -> None:
        """Take a DATA frame of `size` bytes, padding included, of which `data` are the body's."""
        self.window_bytes -= size
        if self.window_bytes < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded")
        if self.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "data on an idle stream")
        if not data and not ends:
            self._patience.spend()
        state = self.open.get(stream_id)
        if state is None and stream_id in self._reset:
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
        """Forget a stream the peer has reset."""
        if self.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "reset of an idle stream")
        self._forget(stream_id, events)

    def widen(self, stream_id: int, increment: int) -> None:
        """Enlarge the window of an answer."""
        if self.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "window update on an idle stream")
        if stream_id in self.open:
            self._outflow.widen_stream(stream_id, increment)

    def fail(self, stream_id: int, code: ErrorCode, events: list[Event]) -> None:
        """Reset a stream for a fault of the peer's."""
        self._patience.spend()
        self._stop(stream_id, code)
        self._forget(stream_id, events)

    def abandon(self, events: list[Event]) -> None:
        """Forget all streams."""
        for stream_id in list(self.open):
            self._forget(stream_id, events)

    def respond(self, stream_id: int, message: bytes) -> bool:
        """Answer a call with one message; a stream that is gone or answered is left alone, and False is returned."""
        state = self.open.get(stream_id)
        if state is AWAITING:
            if self._outflow.answer(stream_id, message):
                del self.open[stream_id]
            else:
                self.open[stream_id] = ANSWERED
        elif isinstance(state, Upload) and not state.is_answered:
            # It stays open: what the peer sends before it reads the answer is delivered as well.
            state.is_answered = True
            self._outflow.answer(stream_id, message)
        else:
            return False
        return True

    def refuse(self, stream_id: int, refusal: Refusal) -> None:
        """Answer a call without a message; a stream that is gone or answered is left alone."""
        state = self.open.get(stream_id)
        if state is AWAITING or (isinstance(state, Upload) and not state.is_answered):
            self._outflow.refuse(stream_id, refusal)
            self._complete(stream_id)

    def flush(self) -> None:
        """Send what waits for the peer's windows, as far as they allow."""
        for stream_id in self._outflow.flush():
            if self.open[stream_id] is ANSWERED:
                del self.open[stream_id]

    def _complete(self, stream_id: int) -> None:
        if isinstance(state := self.open.pop(stream_id), Upload):
            self._held_bytes -= state.held_bytes
            # The answer stands, the rest of the request is not wanted (RFC 9113 section 8.1).
            self._stop(stream_id, ErrorCode.NO_ERROR)

    def _forget(self, stream_id: int, events: list[Event]) -> None:
        state = self.open.pop(stream_id, None)
        self._outflow.drop(stream_id)
        if isinstance(state, Upload):
            self._held_bytes -= state.held_bytes
        if state is AWAITING or (isinstance(state, Upload) and state.is_streaming and not state.is_answered):
            events.append(Cancelled(stream_id))
        elif isinstance(state, Upload) and state.is_streaming:
            events.append(Ended(stream_id))

    def _stop(self, stream_id: int, code: ErrorCode) -> None:
        self._outflow.write(rst_stream(stream_id, code))
        self._reset[stream_id] = None
        if len(self._reset) > _RESET_MAX:
            del self._reset[next(iter(self._reset))]

    def _upload(self, call: Call) -> Upload:
        return Upload(call, self._limits.message_bytes_max)

    def _refill(self, stream_id: int, upload: Upload, size: int) -> None:
        # At half a window, which is more than one frame: no peer can overrun what it has been given.
        upload.used_bytes += size
        if upload.used_bytes > self._limits.stream_window_bytes // 2:
            self._outflow.write(window_update(stream_id, upload.used_bytes))
            upload.used_bytes = 0

    def _feed(self, stream_id: int, upload: Upload, data: bytes, events: list[Event]) -> Refusal | None:
        self._held_bytes -= upload.held_bytes
        try:
            outcome = upload.feed(data)
        finally:
            self._held_bytes += upload.held_bytes
        if isinstance(outcome, Refusal):
            return outcome
        events.extend(Request(stream_id, upload.call, message) for message in outcome)
        return _BUSY if self._held_bytes > self._limits.upload_bytes_max else None

    def _finish(self, stream_id: int, upload: Upload, events: list[Event]) -> None:
        if upload.is_answered:
            self._held_bytes -= upload.held_bytes
            events.append(Ended(stream_id))
            if self._outflow.holds(stream_id):
                self.open[stream_id] = ANSWERED
            else:
                del self.open[stream_id]
            return
        outcome = upload.finish()
        if isinstance(outcome, Refusal):
            self._reject(stream_id, upload, outcome, events, is_over=True)
            return
        self._held_bytes -= upload.held_bytes
        self.open[stream_id] = AWAITING
        events.append(Ended(stream_id) if outcome is None else Request(stream_id, upload.call, outcome))

    def _reject(self, stream_id: int, upload: Upload, refusal: Refusal, events: list[Event], *, is_over: bool) -> None:
        self.open[stream_id] = upload
        if not upload.is_answered:
            self._outflow.refuse(stream_id, refusal)
        if not is_over:
            self._stop(stream_id, ErrorCode.NO_ERROR)
        self._forget(stream_id, events)

    def _trailers(self, stream_id: int, fields: list[tuple[bytes, bytes]], events: list[Event], *, ends: bool) -> None:
        state = self.open[stream_id]
        if isinstance(state, Phase):
            raise StreamFault(ErrorCode.STREAM_CLOSED, "headers after the end")
        if not ends:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream")
        verify_trailers(fields)
        self._finish(stream_id, self._upload(state) if isinstance(state, Call) else state, events)
