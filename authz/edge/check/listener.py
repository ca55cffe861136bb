"""The hot path's listener: checks and unary health checks on our own HTTP/2 core, a batch at a time.

All calls of one read are begun before anything is written. Answers that were decided together leave in one write,
before those of the next connection are put together: Envoy is at work meanwhile. Its access log arrives here too, one
message at a time. Health's Watch is `grpc_server.py`'s.
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
from authz.edge.check.responses import Answers
from authz.edge.h2 import Cancelled, Connection, Event, Limits, Method, Request
from authz.edge.h2.answers import Refusal
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
    """Serves one checker on one address, `HOST:PORT` (port 0 picks one) or `unix:/PATH`.

    `check_s_max` is how long a check may take by itself: a caller that waits longer (grpc-timeout) needs no timer.
    """

    def __init__(self, checker: Checker, listen: str, *, check_s_max: float) -> None:
        self.checks = Checks(checker)
        self.check_s_max = check_s_max
        self.checker = checker
        self._listen = listen
        self._server: asyncio.Server | None = None
        self.peers: set[_Peer] = set()
        self.health = b""
        self._deserted = asyncio.Event()
        self._deserted.set()

    @property
    def port(self) -> int:
        """Return the TCP port; 0 on a unix socket or before the start."""
        name = self._server.sockets[0].getsockname() if self._server else ""
        return name[1] if isinstance(name, tuple) else 0

    async def start(self) -> None:
        """Accept connections; health says NOT_SERVING until `serve_health`."""
        self.serve_health(serving=False)
        loop = asyncio.get_running_loop()
        if self._listen.startswith("unix:"):
            self._server = await loop.create_unix_server(self._peer, self._listen.removeprefix("unix:"))
        else:
            host, _, port = self._listen.rpartition(":")
            self._server = await loop.create_server(self._peer, host.strip("[]"), int(port), reuse_port=True)

    def serve_health(self, *, serving: bool) -> None:
        """Tell Envoy's health checks whether to send checks here."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        self.health = health_pb2.HealthCheckResponse(status=status).SerializeToString()

    async def stop(self, grace_s: float) -> None:
        """Accept no more connections, send GOAWAY, and close each connection once its calls are answered."""
        if self._server is None:
            return
        self._server.close()
        for peer in list(self.peers):
            peer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._deserted.wait()
        for peer in list(self.peers):
            peer.abort()

    def arrived(self, peer: "_Peer") -> None:
        """Note a connection."""
        self.peers.add(peer)
        self._deserted.clear()

    def left(self, peer: "_Peer") -> None:
        """Note its end."""
        self.peers.discard(peer)
        if not self.peers:
            self._deserted.set()

    def _peer(self) -> "_Peer":
        return _Peer(self)


class _Peer(asyncio.Protocol):
    """One connection of Envoy's: reads become calls, answers become writes."""

    def __init__(self, listener: CheckListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(_METHODS, _LIMITS)
        self._transport: Any = None
        self._unwritten: list[tuple[Answers, Sequence[Decided]]] = []
        self._is_held = False  # what is answered now is flushed later, or never
        self._is_draining = False
        self._reporters: dict[int, Reporter] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._listener.arrived(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._is_held = True
        is_asked = self._receive(data)
        self._is_held = False
        if not is_asked or self._connection.is_closed:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio.Protocol
        self._listener.left(self)
        self._is_held = True
        if self._reporters:
            self._read_rest()
        for event in self._connection.abandon():
            self._end(event)

    # A peer that does not read its answers gets no further questions in.
    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def drain(self) -> None:
        self._is_draining = True
        self._connection.drain()
        # Answered, Envoy reports to another sidecar. What it sends until it has read the answer still arrives here.
        for stream_id in self._reporters:
            self._connection.respond(stream_id, access_log.ANSWER)
        self._flush()

    def abort(self) -> None:
        self._transport.abort()

    def _receive(self, data: bytes) -> bool:
        """Take in what arrived. Tells whether a store was asked: what can be answered at once leaves with its answer.

        Envoy pays for each write that it has to read, and answers that leave together come back as calls that do.
        """
        asked: list[tuple[int, CheckRequest]] = []
        for event in self._connection.receive(data, self._loop.time()):
            if not isinstance(event, Request):
                self._end(event)
            elif event.call.method is not _CHECK:
                self._call(event)
            else:
                try:
                    asked.append((event.stream_id, CheckRequest.FromString(event.message)))
                except DecodeError:
                    self._connection.refuse(event.stream_id, _UNREADABLE)
                timeout_s = event.call.timeout_s
                if timeout_s is not None and timeout_s < self._listener.check_s_max:
                    self._loop.call_later(timeout_s, self._expire, event.stream_id)
        return bool(asked) and self._listener.checks.check(asked, self._answer)

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
        self._connection.refuse(stream_id, _TOO_LATE)  # which a stream that was answered ignores
        if not self._is_held:
            self._flush()

    def _read_rest(self) -> None:
        """Take in what arrived before the connection broke: an Envoy that exits tells the ends of its streams last.

        A write that fails, because the peer is gone, makes the event loop drop the connection with all that is unread.
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
            self._reporters.pop(request.stream_id).break_off()

    def _end(self, event: Event) -> None:
        """Note the end of a call whose answer nobody waits for, or whose caller waits for nothing but that."""
        reporter = self._reporters.pop(event.stream_id, None)
        if reporter is None:
            return
        if isinstance(event, Cancelled):
            reporter.break_off()
        else:
            self._connection.respond(event.stream_id, access_log.ANSWER)

    def _answer(self, answers: Answers, decided: Sequence[Decided]) -> bool:
        if len(decided) == 1 and decided[0][2].streams is not None:
            # A lease is given back where nobody waits for the answer, which has to be known at once. It leaves a little
            # later, with what else this turn decides.
            stream_id, attributes, decision = decided[0]
            if not self._is_held:
                self._loop.call_soon(self._flush)
            return self._connection.respond(stream_id, write(answers, attributes, decision))
        self._unwritten.append((answers, decided))
        if not self._is_held:
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
