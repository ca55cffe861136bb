"""Lets in only what comes through Envoy, and takes the caller's address from it.

Envoy takes both headers off whatever clients send and sets them itself: the proof is a secret that it shares with the
portal, the address is what its own trusted-hop setting makes of the connection. What Envoy lets through is the policy's
business.
"""

import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PROOF = "x-authz-proxy"
ADDRESS = "x-authz-client-address"


class ThroughEnvoy:
    """ASGI middleware; `open_paths` are for probes, which ask the portal itself."""

    def __init__(self, app: ASGIApp, *, secret: str, open_paths: frozenset[str]) -> None:
        self._app = app
        self._secret = secret.encode()
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it (ASGI)."""
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
