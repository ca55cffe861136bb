"""The headers that every answer of the portal carries, so that a browser does with it only what was meant.

Caching of what never changes is allowed by whoever serves it; everything else stays out of every cache.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Nothing inline, nothing from elsewhere; forms go nowhere else, and no other page may frame these.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_ALWAYS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    # Not no-referrer, with which a browser would hide the origin of our own forms from us.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex",
}
_A_YEAR_S = 31_536_000


def put(headers: MutableHeaders, *, is_https: bool) -> None:
    """Put the headers on an answer; `is_https` says whether people come over TLS."""
    headers.update(_ALWAYS)
    if is_https:
        headers["strict-transport-security"] = f"max-age={_A_YEAR_S}"
    headers.setdefault("cache-control", "no-store")


class ResponseHeaders:
    """ASGI middleware: `put` for every answer but those to crashes, which are made further out."""

    def __init__(self, app: ASGIApp, *, is_https: bool) -> None:
        self._app = app
        self._is_https = is_https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to one answer (ASGI)."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                put(MutableHeaders(scope=message), is_https=self._is_https)
            await send(message)

        await self._app(scope, receive, sending)
