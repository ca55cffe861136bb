"""One result of the event loop for all requests that wait for it.

The admin server reads the state of the process only on the process' event loop, because only there is it consistent;
and a loop that does not respond shows in the responses. The endpoints are in `server.py`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from authz.edge.admin.connection import HttpConnection
from authz.edge.admin.http_server import HttpServer
from authz.edge.admin.messages import HttpRequest

_DEADLINE_S = 2.0

T = TypeVar("T")

_log = logging.getLogger("authz.admin")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request without a response, and when it gets the response 503."""

    connection: HttpConnection
    request: HttpRequest
    deadline_s: float


class SharedResult(Generic[T]):
    """Calls `collect` on the event loop, then `finish` on the server's thread with the requests that came before it.

    `finish` returns how many seconds the next call must wait. So each response is newer than its request, and however
    many requests there are, the loop is interrupted at that rate at most.
    """

    def __init__(
        self,
        server: HttpServer,
        loop: asyncio.AbstractEventLoop,
        collect: Callable[[], T],
        finish: Callable[[T, list[Waiting]], float],
    ) -> None:
        self._server = server
        self._loop = loop
        self._collect = collect
        self._finish = finish
        self._waiting: list[Waiting] = []
        self._collecting: list[Waiting] = []
        self._is_collecting = False
        self._is_scheduled = False
        self._next_s = 0.0

    def add(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Respond to a request with the next result."""
        deadline_s = time.monotonic() + _DEADLINE_S
        self._waiting.append(Waiting(connection, request, deadline_s))
        self._server.call_at(deadline_s, self._expire)
        self._start()

    def _start(self) -> None:
        if self._is_collecting or self._is_scheduled or not self._waiting:
            return
        if time.monotonic() < self._next_s:
            self._is_scheduled = True
            self._server.call_at(self._next_s, self._start_scheduled)
            return
        self._collecting, self._waiting = self._waiting, []
        self._is_collecting = True
        try:
            self._loop.call_soon_threadsafe(self._run)
        except RuntimeError:  # the loop is closed: the requests expire
            return

    def _start_scheduled(self) -> None:
        self._is_scheduled = False
        self._start()

    def _run(self) -> None:
        try:
            result = self._collect()
        except Exception:  # noqa: BLE001 -- the requests get a 503, and the log has the reason
            _log.exception("the state of the process cannot be read")
            self._server.call(self._fail)
        else:
            self._server.call(lambda: self._done(result))

    def _done(self, result: T) -> None:
        waiting = self._take_collecting()
        try:
            self._next_s = time.monotonic() + self._finish(result, waiting)
        except Exception:  # noqa: BLE001 -- as above
            _log.exception("an admin response cannot be built")
            self._refuse(waiting)
        self._start()

    def _fail(self) -> None:
        self._refuse(self._take_collecting())
        self._start()

    def _take_collecting(self) -> list[Waiting]:
        waiting, self._collecting = self._collecting, []
        self._is_collecting = False
        return waiting

    def _expire(self) -> None:
        now_s = time.monotonic()
        for queue in (self._waiting, self._collecting):
            self._refuse([each for each in queue if each.deadline_s <= now_s])
            queue[:] = [each for each in queue if each.deadline_s > now_s]

    def _refuse(self, waiting: list[Waiting]) -> None:
        for each in waiting:
            self._server.drive(each.connection, each.connection.refuse_unavailable)
