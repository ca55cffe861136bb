"""The listener of the hot path: checks and unary health checks on our own HTTP/2 core, in batches.

All calls of one read start before anything is written. Responses that were decided together are sent in one write,
before those of the next connection are serialised, so Envoy works in parallel. Envoy's access log arrives here too, one
message at a time. The streaming health check (Watch) is in `grpc_server.py`.
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
from authz.edge import access_log
from authz.edge.access_log import Reporter
from authz.edge.check.messages import SERVICE, Checks, write
from authz.edge.check.responses import ResponseWriter
from authz.edge.h2 import Cancelled, Connection, Event, Limits, Method, Request
from authz.edge.h2.responses import Refusal
from authz.service.check.checker import Checker
from authz.service.ports import Decided

_CHECK = Method(f"/{SERVICE}/Check")
_HEALTH = Method("/grpc.health.v1.Health/Check")
_ACCESS_LOG = Method(f"/{access_log.SERVICE}/{access_log.METHOD}", client_streaming=True)
_METHODS = {method.path.encode(): method for method in (_CHECK, _HEALTH, _ACCESS_LOG)}
_LIMITS = Limits(message_bytes_max=1 << 20)
_READ_BYTES, _READS_MAX = 65_536, 256
_UNREADABLE = Refusal(GrpcCode.INTERNAL, "the request cannot be read")
_TOO_LATE = Refusal(GrpcCode.DEADLINE_EXCEEDED, "no answer within the caller's timeout")
_NO_SUCH_SERVICE = Refusal(GrpcCode.NOT_FOUND, "unknown service")


class CheckListener:
    """The check listener of one checker on `HOST:PORT` (port 0: any free port) or `unix:/PATH`.

    `check_s_max` is the longest duration of a check. A call with a longer grpc-timeout needs no timer.
    """

    def __init__(self, checker: Checker, listen: str, *, check_s_max: float) -> None:
        self.checks = Checks(checker)
        self.check_s_max = check_s_max
        self.checker = checker
        self._listen = listen
        self._server: asyncio.Server | None = None
        self.peers: set[_Peer] = set()
        self.health = b""
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    @property
    def port(self) -> int:
        """The TCP port; 0 on a unix socket or before `start`."""
        name = self._server.sockets[0].getsockname() if self._server else ""
        return name[1] if isinstance(name, tuple) else 0

    async def start(self) -> None:
        """Accept connections; the health check returns NOT_SERVING until `serve_health`."""
        self.serve_health(serving=False)
        loop = asyncio.get_running_loop()
        if self._listen.startswith("unix:"):
            self._server = await loop.create_unix_server(self._peer, self._listen.removeprefix("unix:"))
        else:
            host, _, port = self._listen.rpartition(":")
            self._server = await loop.create_server(self._peer, host.strip("[]"), int(port), reuse_port=True)

    def serve_health(self, *, serving: bool) -> None:
        """Set the result of Envoy's health checks."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        self.health = health_pb2.HealthCheckResponse(status=status).SerializeToString()

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, send GOAWAY, and close each connection when its calls have responses."""
        if self._server is None:
            return
        self._server.close()
        for peer in list(self.peers):
            peer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._all_closed.wait()
        for peer in list(self.peers):
            peer.abort()

    def add(self, peer: "_Peer") -> None:
        """Register a connection."""
        self.peers.add(peer)
        self._all_closed.clear()

    def remove(self, peer: "_Peer") -> None:
        """Unregister a connection."""
        self.peers.discard(peer)
        if not self.peers:
            self._all_closed.set()

    def _peer(self) -> "_Peer":
        return _Peer(self)


class _Peer(asyncio.Protocol):
    """One connection of Envoy: reads become calls, responses become writes."""

    def __init__(self, listener: CheckListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(_METHODS, _LIMITS)
        self._transport: Any = None
        self._unwritten: list[tuple[ResponseWriter, Sequence[Decided]]] = []
        self._is_batching = False  # responses are written at the end of the batch
        self._is_draining = False
        self._reporters: dict[int, Reporter] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._listener.add(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._is_batching = True
        is_asked = self._receive(data)
        self._is_batching = False
        if not is_asked or self._connection.is_closed:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio.Protocol
        self._listener.remove(self)
        self._is_batching = True
        if self._reporters:
            self._read_remaining()
        for event in self._connection.abandon():
            self._end_call(event)

    # A peer that does not read its responses cannot send further requests.
    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def drain(self) -> None:
        self._is_draining = True
        self._connection.drain()
        # After the response Envoy reports to another sidecar. What it sends before it reads the response still arrives.
        for stream_id in self._reporters:
            self._connection.respond(stream_id, access_log.ANSWER)
        self._flush()

    def abort(self) -> None:
        self._transport.abort()

    def _receive(self, data: bytes) -> bool:
        """Parse received bytes and start their checks; return whether a store request is in flight.

        If so, immediate responses are sent together with those of the store: each write costs Envoy a read, and
        responses in one write lead to requests in one write.
        """
        requests: list[tuple[int, CheckRequest]] = []
        for event in self._connection.receive(data, self._loop.time()):
            if not isinstance(event, Request):
                self._end_call(event)
            elif event.call.method is not _CHECK:
                self._call(event)
            else:
                try:
                    requests.append((event.stream_id, CheckRequest.FromString(event.message)))
                except DecodeError:
                    self._connection.refuse(event.stream_id, _UNREADABLE)
                timeout_s = event.call.timeout_s
                if timeout_s is not None and timeout_s < self._listener.check_s_max:
                    self._loop.call_later(timeout_s, self._expire, event.stream_id)
        return bool(requests) and self._listener.checks.check(requests, self._answer)

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
        for answers, decided in self._unwritten:
            for stream_id, attributes, decision in decided:
                self._connection.respond(stream_id, write(answers, attributes, decision))
        self._unwritten.clear()
        data = self._connection.take_output()
        if data:
            self._transport.write(data)
        if self._connection.is_closed or self._connection.is_finished:
            self._transport.close()
