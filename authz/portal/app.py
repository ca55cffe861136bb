"""The portal as an ASGI application: its routes, what stands around them, and their OpenAPI description.

What they call is put together in `authz/portal_app.py`.
"""

from collections.abc import Callable

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from authz import __version__
from authz.portal import refusals
from authz.portal.public_api import PublicApi
from authz.portal.response_headers import ResponseHeaders
from authz.portal.services import Services
from authz.portal.through_envoy import ThroughEnvoy

_BODY_BYTES_MAX = 65_536
_HEALTH, _READINESS = "/healthz", "/readyz"

Readiness = Callable[[], dict[str, bool]]


def application(services: Services, *, proxy_secret: str, readiness: Readiness) -> FastAPI:
    """Make the application; `readiness` names each thing that must be true for the process to be ready."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        conditions = readiness()
        return JSONResponse(conditions, status_code=200 if all(conditions.values()) else 503)

    app = FastAPI(
        title=f"{services.policy.api} portal",
        version=__version__,
        # The page that would show it wants scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        openapi_url="/dashboard/openapi.json",
        redirect_slashes=False,
        max_body_size=_BODY_BYTES_MAX,
        middleware=[
            Middleware(ResponseHeaders, is_https=services.public_url.startswith("https:")),
            Middleware(ThroughEnvoy, secret=proxy_secret, open_paths=frozenset({_HEALTH, _READINESS})),
        ],
    )
    app.router.routes += [Route(_HEALTH, healthz), Route(_READINESS, readyz)]
    app.include_router(PublicApi(services).router)
    refusals.install(app)
    return app
