"""Exports the span of each request whose caller records its trace.

Latencies are measured for all requests in `request_metrics.py`.
"""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authz.service.portal.ports import RequestTracer

_CRASHED = 500
_UNMATCHED = "unmatched"
_TEXT_BYTES_MAX = 128


class RequestTraces:
    """ASGI middleware. A request without `traceparent` costs the search for it."""

    def __init__(self, app: ASGIApp, *, tracer: RequestTracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace one request (ASGI)."""
        traceparent = _header(scope, b"traceparent") if scope["type"] == "http" else ""
        if not traceparent:
            await self._app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), _CRASHED

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            found = scope.get("route") or scope.get("endpoint")
            template, took_s = getattr(found, "path", _UNMATCHED), time.perf_counter() - started_s
            request_id = _header(scope, b"x-request-id")
            self._tracer.served(traceparent, request_id, scope["method"], template, status, took_s)


def _header(scope: Scope, name: bytes) -> str:
    value: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return value.decode("latin-1") if len(value) <= _TEXT_BYTES_MAX else ""
