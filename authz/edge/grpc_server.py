"""The grpc.aio server: `Authorization/Check`, Envoy's access log and `grpc.health.v1`, complete and simple.

The reference for the hot path's listener (`check/listener.py`), and the fallback for clients that need all of gRPC.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from authz._pb.check_pb2 import CheckRequest
from authz.edge import access_log
from authz.edge.access_log import Reporter
from authz.edge.check.listener import CONNECTIONS_MAX
from authz.edge.check.messages import SERVICE, Checks, write
from authz.edge.check.responses import ResponseWriter
from authz.edge.check.tls import CheckTls
from authz.edge.grpc_tls import AdmittedNames, credentials
from authz.edge.sockets import SocketRights, cannot_listen, clear_stale, listening_socket, unix_path
from authz.service.check.checker import Checker
from authz.service.ports import Decided

_OPTIONS = [
    ("grpc.http2.max_ping_strikes", 0),  # otherwise Envoy's keepalive pings on an idle connection are an error
    ("grpc.max_receive_message_length", 1 << 20),
    # The limits of the check listener (`check/listener.py`, `check/peer.py`), as far as grpcio has them.
    ("grpc.max_concurrent_streams", 2_048),
    ("grpc.max_metadata_size", 16_384),
    ("grpc.absolute_max_metadata_size", 16_384),
    ("grpc.so_reuseport", 0),
    ("grpc.max_allowed_incoming_connections", CONNECTIONS_MAX),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 3_900_000),
    ("grpc.http2.max_frame_size", 16_384),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]
_CALLS_MAX = 8_192

_ABORT_DELAY_S = 0.2


class GrpcServer:
    """The gRPC server of one checker on `HOST:PORT` (port 0: any free port) or `unix:/PATH`.

    Raises `SettingsError` if it cannot listen there.
    """

    def __init__(
        self,
        checker: Checker,
        listen: str,
        rights: SocketRights = SocketRights(),  # noqa: B008 -- a frozen value
        tls: CheckTls | None = None,
    ) -> None:
        self._checks = Checks(checker)
        self._checker = checker
        self._stopping = asyncio.Event()
        self._health = health.HealthServicer()
        self._credentials = None if tls is None else credentials(tls)
        interceptors = [] if tls is None else [AdmittedNames(tls)]
        self._server = grpc.aio.server(interceptors=interceptors, options=_OPTIONS, maximum_concurrent_rpcs=_CALLS_MAX)
        check = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=CheckRequest.FromString,
        )
        report = grpc.stream_unary_rpc_method_handler(self._report)
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(SERVICE, {"Check": check}),
                grpc.method_handlers_generic_handler(access_log.SERVICE, {access_log.METHOD: report}),
            ]
        )
        add_HealthServicer_to_server(self._health, self._server)
        self.port = self._bound(listen, rights)

    async def start(self) -> None:
        """Accept calls; the health service returns NOT_SERVING until `serve_health`."""
        await self.serve_health(serving=False)
        await self._server.start()

    def _bound(self, listen: str, rights: SocketRights) -> int:
        try:
            if not listen.startswith("unix:"):
                listening_socket(listen).close()  # it says in one line why the address cannot be used
                return self._add(f"[::]{listen}" if listen.startswith(":") else listen)
            path = unix_path(listen)
            clear_stale(path)
            port = self._add(listen)
            rights.apply(path)
        except (RuntimeError, OSError, LookupError) as error:
            raise cannot_listen(listen, error) from error
        return port

    def _add(self, address: str) -> int:
        if self._credentials is None:
            return int(self._server.add_insecure_port(address))
        return int(self._server.add_secure_port(address, self._credentials))

    async def serve_health(self, *, serving: bool) -> None:
        """Set the result of Envoy's health checks."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self._health.set(service, status)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls (GOAWAY) and finish those in flight; Envoy's access log moves to another sidecar."""
        self._stopping.set()
        await self._server.stop(grace_s)

    async def _check(self, request: CheckRequest, context: Any) -> bytes:  # noqa: ANN401 -- grpc has no types
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answer(answers: ResponseWriter, decided: Sequence[Decided]) -> bool:
            for _, attributes, decision in decided:
                if answered.done():  # the call is closed
                    return False
                answered.set_result(write(answers, attributes, decision))
            return True

        self._checks.check([(0, request, _Call(context))], answer)
        return await answered

    async def _report(self, messages: AsyncIterator[bytes], _context: Any) -> bytes:  # noqa: ANN401 -- grpc has no types
        reporter = Reporter(self._checker.leases)
        loop = asyncio.get_running_loop()
        reading = loop.create_task(_read(messages, reporter))
        stopping = loop.create_task(self._stopping.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
                # grpcio may report the end of the messages before it reports that the call was aborted.
                await asyncio.sleep(_ABORT_DELAY_S)
        except BaseException:
            reporter.abort()
            raise
        finally:
            reading.cancel()
            stopping.cancel()
        return access_log.ANSWER


class _Call:
    """The trace context of one call, read when it is needed."""

    def __init__(self, context: Any) -> None:  # noqa: ANN401 -- grpc has no types
        self._metadata = context.invocation_metadata() or ()

    @property
    def traceparent(self) -> str:
        return next((str(value) for name, value in self._metadata if name == "traceparent"), "")

    @property
    def is_sampled(self) -> bool:
        flags = self.traceparent[-2:]
        return len(flags) == 2 and flags[1] in "13579bdf"  # noqa: PLR2004 -- two digits


async def _read(messages: AsyncIterator[bytes], reporter: Reporter) -> None:
    async for message in messages:
        if not reporter.receive(message):
            raise ValueError("the message cannot be read")
