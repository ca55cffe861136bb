"""Keeps requests small: who sends more than a form of ours could hold is refused, in what the route speaks.

The framework's own limit would answer for itself, in plain text and without the headers that every answer of ours has.
"""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TOO_LARGE = 413


class BodyLimit:
    """ASGI middleware; the refusal is raised where the body is read, to be answered like every other."""

    def __init__(self, app: ASGIApp, *, body_bytes_max: int) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and count its body as it comes (ASGI)."""
        body_bytes = 0

        async def receiving() -> Message:
            nonlocal body_bytes
            message = await receive()
            body_bytes += len(message.get("body", b""))
            if body_bytes > self._body_bytes_max:
                raise HTTPException(_TOO_LARGE, "too large")
            return message

        await self._app(scope, receiving, send)
