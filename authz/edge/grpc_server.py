"""The grpc.aio server: `Authorization/Check` and `grpc.health.v1`, complete and plain.

It translates and waits; deciding is the service's. A check that breaks inside answers an error: never an allow, and
never an aborted call, which Envoy would ask again.
"""

import asyncio
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from authz._pb.check_pb2 import CheckRequest, CheckResponse
from authz.core.check import Decision, Deny, RequestAttributes
from authz.core.errors import DenyReason
from authz.edge.codec import decode, encode
from authz.service.checker import Checker

SERVICE = "envoy.service.auth.v3.Authorization"

_OPTIONS = [
    ("grpc.http2.max_ping_strikes", 0),  # Envoy's keepalive pings would count as abuse on a quiet connection
    ("grpc.max_receive_message_length", 1 << 20),
]

_log = structlog.stdlib.get_logger("authz.grpc")


class GrpcServer:
    """Serves one checker on one address, `HOST:PORT` (port 0 picks one) or `unix:/PATH`."""

    def __init__(self, checker: Checker, listen: str) -> None:
        self._checker = checker
        self._health = health.HealthServicer()
        self._server = grpc.aio.server(options=_OPTIONS)
        check = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=CheckRequest.FromString,
            response_serializer=CheckResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Check": check})])
        add_HealthServicer_to_server(self._health, self._server)
        self.port: int = self._server.add_insecure_port(listen)

    async def start(self) -> None:
        """Accept calls; the health service says NOT_SERVING until `serve_health`."""
        await self.serve_health(serving=False)
        await self._server.start()

    async def serve_health(self, *, serving: bool) -> None:
        """Tell Envoy's health checks whether to send checks here."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self._health.set(service, status)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls (GOAWAY) and let those under way finish."""
        await self._server.stop(grace_s)

    async def _check(self, request: CheckRequest, _context: Any) -> CheckResponse:  # noqa: ANN401 -- grpc has no types
        policy = self._checker.policy
        attributes = RequestAttributes(request_id="", method="", target="")
        try:
            attributes = decode(request, policy.keys.header)
            return encode(policy, attributes, await self._decision(attributes))
        except Exception:  # noqa: BLE001 -- whatever broke, the answer is an error and the log has the reason
            _log.exception("check failed", request_id=attributes.request_id)
            return encode(policy, attributes, Deny(DenyReason.INTERNAL, retry_after_s=1))

    async def _decision(self, attributes: RequestAttributes) -> Decision:
        decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()

        def answer(decision: Decision) -> None:
            if not decided.done():  # Envoy may have hung up meanwhile
                decided.set_result(decision)

        self._checker.check(attributes, answer)
        return await decided
