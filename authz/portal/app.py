"""The portal as an ASGI application: routes, middleware, error handlers and the OpenAPI description.

The use cases are composed in `authz/portal_app.py`.
"""

from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from authz import __version__
from authz.core.errors import NotEffectiveYet, Refused, StoreUnavailable
from authz.core.policy.policy import Policy
from authz.portal.api.dashboard import SessionApi
from authz.portal.api.device import DeviceApi
from authz.portal.api.openapi import corrected
from authz.portal.api.public import WHO_AM_I, PublicApi
from authz.portal.api.sessions import SessionsApi
from authz.portal.browser_sessions import LoginNeeded, cookie_names
from authz.portal.envoy_only import EnvoyOnly
from authz.portal.error_responses import json_response
from authz.portal.middleware.request_limits import RequestLimits
from authz.portal.middleware.request_metrics import RequestMetrics
from authz.portal.middleware.request_traces import RequestTraces
from authz.portal.middleware.response_headers import ResponseHeaders, put
from authz.portal.pages.account import AccountPages
from authz.portal.pages.device import DevicePages
from authz.portal.pages.entry import EntryPages
from authz.portal.pages.keys import KeyPages
from authz.portal.pages.recovery import RecoveryPages
from authz.portal.pages.rendering import GET, Pages, redirect
from authz.portal.services import Services
from authz.service.portal.ports import PortalObserver, RequestTracer

_BODY_BYTES_MAX = 65_536
_PAGES, _STATIC = ("/dashboard", "/device"), "/dashboard/static"
_STATIC_S = 300
_DESCRIPTION = "/dashboard/openapi.json"
_METHOD_NOT_ALLOWED = 405
_HEALTH, _READINESS = "/healthz", "/readyz"

Readiness = Callable[[], dict[str, bool]]


class _Static(StaticFiles):
    """The static files of the pages; browsers may cache them. `path` is their route in metrics."""

    path = _STATIC

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Respond with a file (StaticFiles)."""
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = f"public, max-age={_STATIC_S}"
        return response


def application(
    services: Services, *, proxy_secret: str, readiness: Readiness, tracer: RequestTracer | None = None
) -> FastAPI:
    """Create the application; `readiness` returns each condition of readiness by name."""

    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    async def readyz() -> Response:
        conditions = readiness()
        return JSONResponse(conditions, status_code=200 if all(conditions.values()) else 503)

    async def describe() -> Response:
        cookie_name, key_header = pages.browser.cookie_name, services.policy.keys.header
        return JSONResponse(corrected(app.openapi(), cookie_name=cookie_name, key_header=key_header))

    is_https = services.public_url.startswith("https:")
    app = FastAPI(
        title=f"{services.policy.api} portal",
        version=__version__,
        # The pages that would show it load scripts from another origin.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        middleware=[
            *([Middleware(RequestTraces, tracer=tracer)] if tracer is not None else []),
            Middleware(RequestMetrics, observer=services.observer),
            Middleware(ResponseHeaders, is_https=is_https),
            Middleware(EnvoyOnly, secret=proxy_secret, open_paths=frozenset({_HEALTH, _READINESS})),
            Middleware(RequestLimits, body_bytes_max=_BODY_BYTES_MAX, cookie_names=cookie_names(is_https=is_https)),
        ],
    )
    for path, show in ((_HEALTH, healthz), (_READINESS, readyz), (_DESCRIPTION, describe)):
        app.add_api_route(path, show, include_in_schema=False)
    pages = Pages(services)
    parts = (
        PublicApi(services),
        DeviceApi(services),
        SessionApi(services),
        SessionsApi(services),
        EntryPages(services, pages),
        RecoveryPages(services, pages),
        AccountPages(services, pages),
        KeyPages(services, pages),
        DevicePages(services, pages),
    )
    for part in parts:
        app.include_router(part.router)
    app.mount(_STATIC, _Static(packages=[("authz.portal", "static")]))
    routes = [*app.routes, *(route for part in parts for route in part.router.routes)]
    _answer_errors(app, pages, services.policy, services.observer, routes, is_https=is_https)
    return app


def _answer_errors(
    app: FastAPI,
    pages: Pages,
    policy: Policy,
    observer: PortalObserver,
    routes: Sequence[BaseRoute],
    *,
    is_https: bool,
) -> None:
    """Respond to each error in the format of its route: HTML for pages, else JSON."""

    async def answer(request: Request, error: Exception) -> Response:
        is_page = request.url.path.startswith(_PAGES) and not request.url.path.startswith(_STATIC)
        if isinstance(error, LoginNeeded):
            return redirect(f"/dashboard/login?{urlencode({'next': error.next_page})}")
        failure = error.__cause__ if isinstance(error, NotEffectiveYet) else error
        if isinstance(failure, StoreUnavailable):
            observer.store_failed(failure.store)
        domain = policy.domain if request.url.path == WHO_AM_I else ""
        response = pages.failure(request, error) if is_page else json_response(error, domain)
        if response.status_code == _METHOD_NOT_ALLOWED:
            response.headers["allow"] = ", ".join(_methods(routes, request))
        put(response.headers, is_https=is_https)
        return response

    for kind in (
        LoginNeeded,
        Refused,
        NotEffectiveYet,
        StoreUnavailable,
        RequestValidationError,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, answer)


def _methods(routes: Sequence[BaseRoute], request: Request) -> list[str]:
    """Return the methods of all routes with the path of a request; the router names those of one route only."""
    methods = set(GET) if request.url.path.startswith(_STATIC) else set[str]()
    for route in routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)
