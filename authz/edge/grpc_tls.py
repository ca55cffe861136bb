"""TLS of the gRPC server, by the same files as the check listener, reloaded when they change.

The files and what they must be are `check/tls.py`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from authz.edge.check.tls import CheckTls

_NAMES = "x509_subject_alternative_name"


def credentials(tls: CheckTls) -> grpc.ServerCredentials:
    """Return credentials that each new connection reads anew if a file has changed."""
    used = tls.context()

    def fetched() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        # The context is new only if all of the files can be used together.
        if (context := tls.context()) is used:
            return None
        try:
            made = _configuration(tls)
        except OSError:
            return None
        used = context
        return made

    required = tls.files.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(_configuration(tls), fetched, require_client_authentication=required)


class AdmittedNames(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Refuses every call of a client whose certificate has none of the names, which is logged."""

    def __init__(self, tls: CheckTls) -> None:
        self._tls = tls

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,  # noqa: ANN401 -- grpc has no types
    ) -> Any:  # noqa: ANN401 -- the same
        """Wrap the call's handler."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.response_streaming:
            return handler._replace(unary_stream=self._streaming(handler.unary_stream))
        if handler.request_streaming:
            return handler._replace(stream_unary=self._unary(handler.stream_unary))
        return handler._replace(unary_unary=self._unary(handler.unary_unary))

    def _unary(self, behavior: Any) -> Any:  # noqa: ANN401 -- grpc has no types
        async def call(request: Any, context: Any) -> Any:  # noqa: ANN401 -- the same
            await self._refuse(context)
            return await behavior(request, context)

        return call

    def _streaming(self, behavior: Any) -> Any:  # noqa: ANN401 -- grpc has no types
        async def call(request: Any, context: Any) -> Any:  # noqa: ANN401 -- the same
            await self._refuse(context)
            # A health watch writes to its context and returns nothing.
            await behavior(request, context)

        return call

    async def _refuse(self, context: Any) -> None:  # noqa: ANN401 -- grpc has no types
        names = {name.decode(errors="replace") for name in context.auth_context().get(_NAMES, ())}
        if not self._tls.admits_names(names):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the client's certificate is not admitted")


def _configuration(tls: CheckTls) -> grpc.ServerCertificateConfiguration:
    files = tls.files
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    root = None if files.client_ca is None else files.client_ca.read_bytes()
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=root)
