"""One connection of the check listener: reads become calls, responses become writes.

All calls of one read start before anything is written. Responses that were decided together are sent in one write,
before those of the next connection are serialised, so Envoy works in parallel. The connections together are in
`listener.py`.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from authz._pb.check_pb2 import CheckRequest
from authz.core.errors import GrpcCode
from authz.core.traces.context import Traced
from authz.edge import access_log
from authz.edge.access_log import Reporter
from authz.edge.check.messages import SERVICE, write, write_all
from authz.edge.check.peer_owner import PeerOwner
from authz.edge.check.responses import ResponseWriter
from authz.edge.h2 import Cancelled, Connection, Event, Limits, Method, Request
from authz.edge.h2.responses import Refusal
from authz.service.ports import Decided

_CHECK = Method(f"/{SERVICE}/Check")
_HEALTH = Method("/grpc.health.v1.Health/Check")
_ACCESS_LOG = Method(f"/{access_log.SERVICE}/{access_log.METHOD}", client_streaming=True)
_METHODS = {method.path.encode(): method for method in (_CHECK, _HEALTH, _ACCESS_LOG)}
_LIMITS = Limits(message_bytes_max=1 << 20, upload_bytes_max=1 << 22)
_READ_BYTES, _READS_MAX = 65_536, 256
_parse = CheckRequest.FromString
_UNREADABLE = Refusal(GrpcCode.INTERNAL, "the request cannot be read")
_TOO_LATE = Refusal(GrpcCode.DEADLINE_EXCEEDED, "no answer within the caller's timeout")
_NO_SUCH_SERVICE = Refusal(GrpcCode.NOT_FOUND, "unknown service")

_HANDSHAKE_S_MAX = 5.0
_UNPROVEN_S_MAX = 60.0  # without a complete request
# Longer than the hour after which Envoy closes an idle connection itself.
_IDLE_S_MAX = 3_900.0
_INCOMPLETE_S = 30.0
_UNREAD_S_MAX = 30.0
_GOAWAY_S = 5.0
_LINGER_S = 1.0


class Peer(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(self, listener: PeerOwner) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(_METHODS, _LIMITS, listener.uploads)
        self._transport: Any = None
        self._unwritten: list[tuple[ResponseWriter, Sequence[Decided]]] = []
        self._is_batching = False  # responses are written at the end of the batch
        self._is_draining = False
        self._is_finished = False
        self._is_proven = False
        self._reporters: dict[int, Reporter] = {}
        self._made_s = self._loop.time()
        self._expired_s = self._made_s
        self._paused_s: float | None = None
        self._leaves_s: float | None = None  # when the connection is closed though the peer has not closed it

    @property
    def streams(self) -> int:
        """The number of open calls."""
        return self._connection.streams

    @property
    def reports(self) -> int:
        """The number of open calls of Envoy's access log."""
        return len(self._reporters)

    @property
    def upload_bytes(self) -> int:
        """The bytes of incomplete requests."""
        return self._connection.upload_bytes

    @property
    def buffered_bytes(self) -> int:
        """All bytes that are held for this connection."""
        return self._connection.buffered_bytes + int(self._transport.get_write_buffer_size())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection and send our SETTINGS (asyncio.Protocol)."""
        self._transport = transport
        if not self._listener.admits(transport):
            self._receive = _ignore  # type: ignore[method-assign]  # what came with the handshake
            self._transport.abort()
            return
        self._listener.add(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Start what the bytes request (asyncio.Protocol)."""
        self._is_batching = True
        is_asked = self._receive(data)
        self._is_batching = False
        if not self._is_proven and self._connection.is_proven:
            self._is_proven = True
            self._listener.prove(self)
        if not is_asked or self._connection.is_closed:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio.Protocol
        """Cancel the open calls (asyncio.Protocol)."""
        self._listener.remove(self)
        self._is_batching = True
        if self._reporters:
            self._read_remaining()
        for event in self._connection.abandon():
            self._end_call(event)

    def pause_writing(self) -> None:
        """Read no further requests of a peer that does not read its responses (asyncio.Protocol)."""
        self._paused_s = self._loop.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again (asyncio.Protocol)."""
        self._paused_s = None
        self._transport.resume_reading()

    def drain(self) -> None:
        """Send GOAWAY, and close once the calls in flight have responses."""
        self._is_draining = True
        self._connection.drain()
        # After the response Envoy reports to another sidecar. What it sends before it reads the response still arrives.
        for stream_id in self._reporters:
            self._connection.respond(stream_id, access_log.ANSWER)
        self._flush()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def close_now(self) -> None:
        """Close at once, and release what is held for the peer before the transport reports its end."""
        self.connection_lost(None)
        self.abort()

    def expire(self, now_s: float) -> None:
        """Close the connection where a time limit has passed, and reset calls that stay incomplete."""
        if self._leaves_s is not None:
            if now_s > self._leaves_s:
                self.abort()
        elif self._is_overdue(now_s):
            self.abort()
        elif not self.streams and now_s - max(self._made_s, self._connection.last_received_s) > (
            _IDLE_S_MAX if self._is_proven else _UNPROVEN_S_MAX
        ):
            self._leaves_s = now_s + _GOAWAY_S
            self.drain()
        elif now_s - self._expired_s > _INCOMPLETE_S:
            self._expired_s = now_s
            for event in self._connection.expire():
                self._end_call(event)
            self._flush()

    def _is_overdue(self, now_s: float) -> bool:
        if not self._connection.has_settings and now_s - self._made_s > _HANDSHAKE_S_MAX:
            return True
        return self._paused_s is not None and now_s - self._paused_s > _UNREAD_S_MAX

    def _receive(self, data: bytes) -> bool:
        """Parse received bytes and start their checks; return whether a store request is in flight.

        If so, immediate responses are sent together with those of the store: each write costs Envoy a read, and
        responses in one write lead to requests in one write.
        """
        requests: list[tuple[int, CheckRequest, Traced]] = []
        check_s_max = self._listener.check_s_max
        sampled: list[int] = []  # `list[int]()` raises an exception within CPython, which costs a microsecond
        for event in self._connection.receive(data, self._loop.time()):
            if not isinstance(event, Request):
                self._end_call(event)
                continue
            call = event.call
            if call.method is not _CHECK:
                self._call(event)
                continue
            try:
                requests.append((event.stream_id, _parse(event.message), call))
            except DecodeError:
                self._connection.refuse(event.stream_id, _UNREADABLE)
            timeout_s = call.timeout_s
            if call.is_sampled:
                sampled.append(event.stream_id)
            if timeout_s is not None and timeout_s < check_s_max:
                self._loop.call_later(timeout_s, self._expire, event.stream_id)
        return bool(requests) and self._listener.checks.check(requests, self._answer, sampled)

    def _call(self, request: Request) -> None:
        if request.call.method is _ACCESS_LOG:
            self._report(request)
            return
        try:
            service = health_pb2.HealthCheckRequest.FromString(request.message).service
        except DecodeError:
            self._connection.refuse(request.stream_id, _UNREADABLE)
            return
        if service in {"", SERVICE}:
            self._connection.respond(request.stream_id, self._listener.health)
        else:
            self._connection.refuse(request.stream_id, _NO_SUCH_SERVICE)

    def _expire(self, stream_id: int) -> None:
        self._connection.refuse(stream_id, _TOO_LATE)  # ignored where the stream has a response
        if not self._is_batching:
            self._flush()

    def _read_remaining(self) -> None:
        """Read what arrived before the connection broke: an exiting Envoy reports the ends of its streams last.

        After a failed write the event loop closes the connection and discards unread bytes.
        """
        if self._transport.get_extra_info("ssl_object") is not None:  # these bytes are encrypted
            return
        with suppress(OSError), socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as rest:
            for _ in range(_READS_MAX):
                if not (data := rest.recv(_READ_BYTES)):
                    return
                self._receive(data)

    def _report(self, request: Request) -> None:
        reporter = self._reporters.get(request.stream_id)
        if reporter is None:
            reporter = self._reporters[request.stream_id] = Reporter(self._listener.checker.leases)
            if self._is_draining:
                self._connection.respond(request.stream_id, access_log.ANSWER)
        if not reporter.receive(request.message):
            self._connection.refuse(request.stream_id, _UNREADABLE)
            self._reporters.pop(request.stream_id).abort()

    def _end_call(self, event: Event) -> None:
        """End a call: a cancelled one, or a streaming one that sent its last message."""
        reporter = self._reporters.pop(event.stream_id, None)
        if reporter is None:
            return
        if isinstance(event, Cancelled):
            reporter.abort()
        else:
            self._connection.respond(event.stream_id, access_log.ANSWER)

    def _answer(self, answers: ResponseWriter, decided: Sequence[Decided]) -> bool:
        if len(decided) == 1 and decided[0][2].streams is not None:
            # A lease is released where the call is already closed, so the checker needs the result at once. The bytes
            # are written later in the same turn of the event loop, together with other responses.
            stream_id, attributes, decision = decided[0]
            if not self._is_batching:
                self._loop.call_soon(self._flush)
            return self._connection.respond(stream_id, write(answers, attributes, decision))
        self._unwritten.append((answers, decided))
        if not self._is_batching:
            self._flush()
        return True

    def _flush(self) -> None:
        if self._is_finished:
            return
        for answers, decided in self._unwritten:
            self._connection.respond_all(write_all(answers, decided))
        self._unwritten.clear()
        data = self._connection.take_output()
        if data:
            self._transport.write(data)
        if self._connection.is_closed:
            self._transport.close()
        elif self._connection.is_finished:
            self._finish()

    def _finish(self) -> None:
        """Close our side, and read until the peer has closed its own.

        A socket that is closed with unread bytes resets the connection, and the peer may lose the last responses.
        """
        self._is_finished = True
        self._receive = _ignore  # type: ignore[method-assign]
        if self._transport.can_write_eof():
            self._leaves_s = self._loop.time() + _LINGER_S
            self._transport.write_eof()
        else:
            self._transport.close()


def _ignore(data: bytes) -> bool:  # noqa: ARG001 -- in place of `_receive`
    return True  # so that nothing is written
