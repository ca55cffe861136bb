"""Limits requests before anything parses them: the size of target, cookies and body, and no NUL in a target.

The limits of the framework would respond in plain text, without the response headers of the portal. What a field may
contain is checked where it is used, in `core/` and `service/`.
"""

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BAD_REQUEST = 400
_TOO_LARGE = 413
_TARGET_TOO_LONG = 414
_TARGET_BYTES_MAX = 8192
_COOKIE_BYTES_MAX = 512


class RequestLimits:
    """ASGI middleware. Too long a target is 414, and one with a NUL 400, because PostgreSQL stores none.

    Too large a body is a 413, raised where the body is read.

    Only the cookies in `cookie_names` are forwarded, each of at most 512 bytes: the framework parses the cookies of
    each request, and the standard library unquotes a value in quadratic time.
    """

    def __init__(self, app: ASGIApp, *, body_bytes_max: int, cookie_names: frozenset[str]) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max
        self._cookie_names = frozenset(name.encode() for name in cookie_names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request with its own cookies only, and count the bytes of its body (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        target = scope.get("raw_path", b"") + b"?" + scope["query_string"]
        if len(target) > _TARGET_BYTES_MAX + 1:
            await JSONResponse({"error": "uri too long"}, status_code=_TARGET_TOO_LONG)(scope, receive, send)
            return
        if b"%00" in target:
            await JSONResponse({"error": "bad request"}, status_code=_BAD_REQUEST)(scope, receive, send)
            return
        body_bytes = 0

        async def receiving() -> Message:
            nonlocal body_bytes
            message = await receive()
            body_bytes += len(message.get("body", b""))
            if body_bytes > self._body_bytes_max:
                raise HTTPException(_TOO_LARGE, "too large")
            return message

        scope["headers"] = self._headers(scope["headers"])
        await self._app(scope, receiving, send)

    def _headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        others = [(name, value) for name, value in headers if name != b"cookie"]
        cookies = [part for name, value in headers if name == b"cookie" for part in self._own_cookies(value)]
        return [*others, (b"cookie", b"; ".join(cookies))] if cookies else others

    def _own_cookies(self, value: bytes) -> list[bytes]:
        parts = (part.strip(b" \t") for part in value.split(b";"))
        own = [part for part in parts if part.partition(b"=")[0] in self._cookie_names]
        return [part for part in own if len(part) <= _COOKIE_BYTES_MAX]
