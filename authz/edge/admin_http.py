"""The admin endpoints over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for probes.

They are read-only.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Readiness = Callable[[], dict[str, bool]]


class QuietServer(uvicorn.Server):
    """A uvicorn server without signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers (uvicorn.Server)."""
        yield


class AdminServer:
    """The admin server of one metrics registry on `HOST:PORT` or `unix:/PATH`, until `stop`.

    `readiness` returns the conditions of readiness by name, `faults` what fails at present and why. A fault changes no
    status: readiness decides that.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        readiness: Readiness,
        listen: str,
        *,
        faults: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._registry = registry
        self._faults = faults
        self._readiness = readiness
        self._socket = bound(listen)
        routes = [
            Route("/metrics", self._metrics),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]
        app = Starlette(routes=routes)
        self._server = QuietServer(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The TCP port; 0 on a unix socket."""
        name = self._socket.getsockname()
        return name[1] if isinstance(name, tuple) else 0

    def start(self) -> None:
        """Start to serve."""
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))

    async def stop(self) -> None:
        """Finish the requests in flight and close."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), media_type=content_type)

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _request: Request) -> Response:
        conditions, faults = self._readiness(), self._faults()
        body = {**conditions, "faults": dict(faults)} if faults else conditions
        return JSONResponse(body, status_code=200 if all(conditions.values()) else 503)


def bound(listen: str) -> socket.socket:
    """Open the listening socket for `HOST:PORT` or `unix:/PATH`."""
    if listen.startswith("unix:"):
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(listen.removeprefix("unix:"))
        return unix
    host, _, port = listen.rpartition(":")
    return socket.create_server(
        (host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    )
