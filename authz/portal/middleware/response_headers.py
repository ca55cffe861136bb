"""The security headers that each response of the portal carries.

Static files set their own cache lifetime; no other response may be cached.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# No inline code, no other origins; forms submit to the portal only, and no page may frame it.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_ALWAYS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    # Not no-referrer: a browser would then send `Origin: null` with the forms of the portal.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex",
}
_A_YEAR_S = 31_536_000


def put(headers: MutableHeaders, *, is_https: bool) -> None:
    """Set the headers on a response; `is_https` is whether the public URL is https."""
    headers.update(_ALWAYS)
    if is_https:
        headers["strict-transport-security"] = f"max-age={_A_YEAR_S}"
    headers.setdefault("cache-control", "no-store")


class ResponseHeaders:
    """ASGI middleware: `put` for each response except those to crashes, which the framework creates further out."""

    def __init__(self, app: ASGIApp, *, is_https: bool) -> None:
        self._app = app
        self._is_https = is_https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to one response (ASGI)."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                put(MutableHeaders(scope=message), is_https=self._is_https)
            await send(message)

        await self._app(scope, receive, sending)
