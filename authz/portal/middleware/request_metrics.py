"""Measures the latency of each response by route template, never by path, because a path may hold any text.

The outcomes of use cases are counted in `service/`.
"""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authz.service.portal.ports import PortalObserver

_CRASHED = 500
_UNMATCHED = "unmatched"


class RequestMetrics:
    """ASGI middleware, the outermost one; an exception that it sees is answered by the framework."""

    def __init__(self, app: ASGIApp, *, observer: PortalObserver) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure the time until the response to one request starts (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, is_answered = time.perf_counter(), False

        async def sending(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                self._note(scope, message["status"], started_s)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if not is_answered:
                self._note(scope, _CRASHED, started_s)
            raise

    def _note(self, scope: Scope, status: int, started_s: float) -> None:
        # The router has stored the matched route here, or the mounted static files.
        found = scope.get("route") or scope.get("endpoint")
        template = getattr(found, "path", _UNMATCHED)
        self._observer.answered(scope["method"], template, status, time.perf_counter() - started_s)
