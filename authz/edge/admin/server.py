"""The admin endpoints over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for probes.

They are read-only, except for `reloads.py`. Whatever clients do here must not slow the checks: `http_server.py` bounds
it, and this module bounds how often the event loop is interrupted and metrics are serialised.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from authz.edge.admin.connection import HttpConnection, HttpLimits
from authz.edge.admin.debug import PREFIX, DebugPages
from authz.edge.admin.http_server import HttpServer
from authz.edge.admin.messages import HttpRequest, HttpResponse
from authz.edge.admin.reloads import PATH, PolicyReloads, Reload
from authz.edge.admin.shared import SharedResult, Waiting
from authz.edge.check.tls import CheckTls
from authz.edge.sockets import SocketRights, listening_socket, port_of

Readiness = Callable[[], dict[str, bool]]
_Encode = Callable[[CollectorRegistry], bytes]
_State = tuple[dict[str, bool], dict[str, Mapping[str, object]]]

_PROBE_INTERVAL_S = 0.02
# Serialising holds the interpreter lock for its CPU time: at most a hundredth of the time goes to it.
_SCRAPE_INTERVAL_S, _SCRAPE_INTERVAL_S_MAX = 0.05, 5.0
_SCRAPE_CPU_FACTOR = 100
_ACCEPT_CHARS_MAX = 1_024
# The library repeats whatever version a client asks for, and each content type is serialised separately.
_CONTENT_TYPE = re.compile(
    r"(text/plain; version=(0\.0\.4|1\.0\.0)|application/openmetrics-text; version=(0\.0\.1|1\.0\.0|2\.0\.0))"
    r"; charset=utf-8(; escaping=(allow-utf-8|underscores))?"
)

_METRICS, _HEALTH, _READY = "/metrics", "/healthz", "/readyz"


class MetricsSource(Protocol):
    """The metrics of the process."""

    def snapshot(self) -> CollectorRegistry:
        """Return metrics that no longer change; called on the event loop, read on another thread."""
        ...


class AdminServer:
    """The admin server of one process on `HOST:PORT` or `unix:/PATH`, from `start` until `stop`.

    It has a thread of its own, and with `tls` it speaks TLS alone. `readiness` returns the conditions of readiness by
    name, `stores` the present state of each store, `faults` what fails at present and why, `outbox` the changes that
    are pending for too long, `policy` which policy is in force. These change no status: readiness decides that. With
    `reload` the policy can be reloaded by a request from this machine. All of them and the snapshot of `metrics` are
    called on the event loop of `start`; while that loop does not respond, every endpoint returns 503. `has_debug` adds
    the pages of `debug.py`.
    """

    def __init__(  # noqa: PLR0913 -- what a server shows, each by name
        self,
        metrics: MetricsSource,
        readiness: Readiness,
        listen: str,
        limits: HttpLimits | None = None,
        *,
        faults: Callable[[], Mapping[str, str]] = dict,
        stores: Callable[[], Mapping[str, str]] = dict,
        policy: Callable[[], Mapping[str, str | int]] = dict,
        reload: Reload | None = None,
        outbox: Callable[[], Mapping[str, float]] = dict,
        rights: SocketRights = SocketRights(),  # noqa: B008 -- a frozen value
        tls: CheckTls | None = None,
        has_debug: bool = False,
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._faults = faults
        self._stores = stores
        self._policy = policy
        self._reload = reload
        self._reloads: PolicyReloads | None = None
        self._outbox = outbox
        self._listener = listening_socket(listen, rights)
        self.port = port_of(self._listener)
        self._server = HttpServer(self._listener, self._serve, limits, None if tls is None else tls.context)
        self._has_debug = has_debug
        self._debug: DebugPages | None = None
        self._probes: SharedResult[_State]
        self._scrapes: SharedResult[CollectorRegistry]

    def start(self) -> None:
        """Start to serve."""
        loop = asyncio.get_running_loop()
        self._probes = SharedResult(self._server, loop, self._state, self._respond_to_probes)
        self._scrapes = SharedResult(self._server, loop, self._metrics.snapshot, self._respond_to_scrapes)
        if self._reload is not None:
            self._reloads = PolicyReloads(self._server, loop, self._reload)
        if self._has_debug:
            self._debug = DebugPages(self._server, loop)
        self._server.start()

    async def stop(self) -> None:
        """Close the listener and all connections."""
        await asyncio.get_running_loop().run_in_executor(None, self._server.stop)

    def _serve(self, connection: HttpConnection, request: HttpRequest) -> None:
        if self._debug is not None and request.path.startswith(PREFIX):
            self._debug.serve(connection, request)
        elif request.path == PATH and self._reloads is not None:
            self._reloads.serve(connection, request)
        elif request.path not in {_METRICS, _HEALTH, _READY}:
            connection.respond(HttpResponse(HTTPStatus.NOT_FOUND, b"not found\n"))
        elif request.method not in {"GET", "HEAD"}:
            response = HttpResponse(
                HTTPStatus.METHOD_NOT_ALLOWED, b"method not allowed\n", fields=b"allow: GET, HEAD\r\n"
            )
            connection.respond(response)
        else:
            shared = self._scrapes if request.path == _METRICS else self._probes
            shared.add(connection, request)

    def _state(self) -> "_State":
        details = {"stores": self._stores(), "faults": self._faults(), "outbox": self._outbox()} | {
            "policy": self._policy()
        }
        return self._readiness(), {name: dict(detail) for name, detail in details.items() if detail}

    def _respond_to_probes(self, state: "_State", waiting: list[Waiting]) -> float:
        conditions, details = state
        status = HTTPStatus.OK if all(conditions.values()) else HTTPStatus.SERVICE_UNAVAILABLE
        body = {**conditions, **details}
        ready = HttpResponse(status, json.dumps(body, separators=(",", ":")).encode(), "application/json")
        healthy = HttpResponse(HTTPStatus.OK, b"ok\n")
        for each in waiting:
            response = ready if each.request.path == _READY else healthy
            self._server.drive(each.connection, partial(each.connection.respond, response))
        return _PROBE_INTERVAL_S

    def _respond_to_scrapes(self, registry: CollectorRegistry, waiting: list[Waiting]) -> float:
        started_s = time.thread_time()
        responses: dict[str, HttpResponse] = {}
        by_type: list[tuple[Waiting, HttpResponse]] = []
        for each in waiting:
            encode, content_type = _encoder(each.request.accept)
            if content_type not in responses:
                responses[content_type] = HttpResponse(HTTPStatus.OK, encode(registry), content_type)
            by_type.append((each, responses[content_type]))
        used_s = time.thread_time() - started_s
        self._server.pace.exempt()
        for each, response in by_type:
            self._server.drive(each.connection, partial(each.connection.respond, response))
        return min(max(_SCRAPE_INTERVAL_S, used_s * _SCRAPE_CPU_FACTOR), _SCRAPE_INTERVAL_S_MAX)


def _encoder(accept: str) -> "tuple[_Encode, str]":
    """Return how metrics are serialised for a client, and their content type: as plain text unless it is known."""
    try:
        encode, content_type = choose_encoder(accept if len(accept) <= _ACCEPT_CHARS_MAX else "")
    except (TypeError, ValueError):  # a version that is no number
        return choose_encoder("")
    return (encode, content_type) if _CONTENT_TYPE.fullmatch(content_type) else choose_encoder("")
