"""`POST /policy/reload` on the admin listener: off unless the operator turns it on, and from this machine only.

What a reload does is up to the composition root. The other endpoints are in `server.py`.
"""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address
from typing import TypeAlias
from urllib.parse import parse_qs

from authz.edge.admin.connection import HttpConnection
from authz.edge.admin.http_server import HttpServer
from authz.edge.admin.messages import HttpRequest, HttpResponse
from authz.edge.admin.tls import TlsSocket

PATH = "/policy/reload"
_ACKNOWLEDGE = "acknowledge"
_ANSWER_S = 8.0  # before the connection's deadline

Reload: TypeAlias = Callable[[str], Awaitable[tuple[HTTPStatus, dict[str, object]]]]
"""Reloads the policy; the argument is the digest that the caller acknowledges, or empty. Returns the response."""

_log = logging.getLogger("authz.admin")


class PolicyReloads:
    """Starts reloads on the event loop and responds on the server's thread when they are done."""

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop, reload: Reload) -> None:
        self._server = server
        self._loop = loop
        self._reload = reload
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Respond to one request, at once or when the reload is done."""
        refusal = _refusal(connection.sock, request)
        if refusal is not None:
            connection.respond(refusal)
            return
        acknowledged = (parse_qs(request.query).get(_ACKNOWLEDGE) or [""])[0]
        self._server.call_at(time.monotonic() + _ANSWER_S, partial(self._respond_late, connection, request))
        try:
            self._loop.call_soon_threadsafe(self._start, connection, request, acknowledged)
        except RuntimeError:  # the loop is closed
            connection.refuse_unavailable()

    def _start(self, connection: HttpConnection, request: HttpRequest, acknowledged: str) -> None:
        task = self._loop.create_task(self._run(connection, request, acknowledged))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: HttpConnection, request: HttpRequest, acknowledged: str) -> None:
        try:
            status, fields = await self._reload(acknowledged)
        except Exception:  # noqa: BLE001 -- the log has the reason
            _log.exception("a reload of the policy broke")
            status, fields = HTTPStatus.INTERNAL_SERVER_ERROR, {"outcome": "failed"}
        self._server.call(partial(self._respond, connection, request, _json(status, fields)))

    def _respond_late(self, connection: HttpConnection, request: HttpRequest) -> None:
        self._respond(connection, request, _json(HTTPStatus.ACCEPTED, {"outcome": "pending"}))

    def _respond(self, connection: HttpConnection, request: HttpRequest, response: HttpResponse) -> None:
        if connection.serves(request):
            self._server.drive(connection, partial(connection.respond, response))


def _refusal(sock: socket.socket | TlsSocket, request: HttpRequest) -> HttpResponse | None:
    if request.method != "POST":
        return HttpResponse(HTTPStatus.METHOD_NOT_ALLOWED, b"method not allowed\n", fields=b"allow: POST\r\n")
    if request.from_page or not _is_local(sock):
        return HttpResponse(HTTPStatus.FORBIDDEN, b"forbidden\n")
    return None


def _is_local(sock: socket.socket | TlsSocket) -> bool:
    if sock.family == socket.AF_UNIX:
        return True
    try:
        peer = sock.getpeername()
        address = ip_address(str(peer[0] if isinstance(peer, tuple) else peer).partition("%")[0])
    except (OSError, ValueError):
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _json(status: HTTPStatus, fields: dict[str, object]) -> HttpResponse:
    return HttpResponse(status, json.dumps(fields, separators=(",", ":")).encode() + b"\n", "application/json")
