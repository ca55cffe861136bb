"""Limits the size of request bodies; the refusal has the format of the route.

The limit of the framework would respond in plain text, without the response headers of the portal.
"""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TOO_LARGE = 413


class BodyLimit:
    """ASGI middleware; the refusal is raised where the body is read, so that the error handlers respond to it."""

    def __init__(self, app: ASGIApp, *, body_bytes_max: int) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request and count the bytes of its body (ASGI)."""
        body_bytes = 0

        async def receiving() -> Message:
            nonlocal body_bytes
            message = await receive()
            body_bytes += len(message.get("body", b""))
            if body_bytes > self._body_bytes_max:
                raise HTTPException(_TOO_LARGE, "too large")
            return message

        await self._app(scope, receiving, send)
