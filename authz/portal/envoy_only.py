"""Accepts only requests that come through Envoy, and takes the client address from it.

Envoy removes both headers from client requests and sets them itself: a secret that it shares with the portal, and the
address that its trusted-hop setting determines. The policy decides which requests Envoy forwards.
"""

import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PROOF = "x-authz-proxy"
ADDRESS = "x-authz-client-address"


class EnvoyOnly:
    """ASGI middleware; `open_paths` are for probes, which connect to the portal directly."""

    def __init__(self, app: ASGIApp, *, secret: str, open_paths: frozenset[str]) -> None:
        self._app = app
        self._secret = secret.encode()
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request, or refuse it (ASGI)."""
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        addresses = headers.getlist(ADDRESS)
        if not self._is_proof(headers.getlist(PROOF)) or len(addresses) != 1:
            await JSONResponse({"error": "forbidden"}, status_code=403)(scope, receive, send)
            return
        scope["client"] = (addresses[0], 0)
        await self._app(scope, receive, send)

    def _is_proof(self, values: list[str]) -> bool:
        return len(values) == 1 and hmac.compare_digest(values[0].encode("latin-1", "replace"), self._secret)
