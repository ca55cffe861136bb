"""The debug pages of the admin server: a CPU profile, the tasks of the event loop, and memory by type.

They are off unless `AUTHZ_ADMIN_DEBUG` is set, and only for clients on this machine. Each is bounded in time and size,
and one page is made at a time. Libraries that profile one thread from within it (pyinstrument), or that trace each call
(yappi), would slow the checks that they measure; here another thread looks at the stacks, a hundred times a second.
"""

import asyncio
import gc
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address
from itertools import islice
from pathlib import PurePath
from types import FrameType
from typing import Any

from authz.edge.admin.connection import HttpConnection
from authz.edge.admin.http_server import HttpServer
from authz.edge.admin.messages import HttpRequest, HttpResponse

PREFIX = "/debug/"
"""How the paths of these pages begin."""

SECONDS_MAX = 30
"""The longest profile."""

_INTERVAL_S = 0.01
_DEPTH_MAX = 64
_STACKS_MAX = 5_000
_TASKS_MAX = 1_000
_OBJECTS_MAX = 500_000
_TYPES_MAX = 100
_ANSWER_S = 10.0
_TASKS_S = 2.0
_JSON = "application/json"
_SECONDS = re.compile(r"[1-9][0-9]?")


class DebugPages:
    """`/debug/profile/SECONDS`, `/debug/tasks` and `/debug/memory` of the process with this event loop."""

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._is_busy = threading.Lock()

    def serve(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Respond to a request for a page, at once or when it is made; 404 for all that is not on this machine."""
        page = request.path.removeprefix(PREFIX)
        kind, _, text = page.partition("/")
        if not _is_local(connection) or request.method != "GET":
            connection.respond(HttpResponse(HTTPStatus.NOT_FOUND, b"not found\n"))
        elif kind == "profile":
            self._serve_profile(connection, text)
        elif page == "tasks":
            self._begin(connection, self._tasks, _TASKS_S)
        elif page == "memory":
            self._begin(connection, memory, _ANSWER_S)
        else:
            connection.respond(HttpResponse(HTTPStatus.NOT_FOUND, b"not found\n"))

    def _serve_profile(self, connection: HttpConnection, text: str) -> None:
        if not _SECONDS.fullmatch(text) or int(text) > SECONDS_MAX:
            message = f"/debug/profile/SECONDS, from 1 to {SECONDS_MAX}\n".encode()
            connection.respond(HttpResponse(HTTPStatus.BAD_REQUEST, message))
            return
        self._begin(connection, partial(profile, int(text)), int(text) + _ANSWER_S)

    def _begin(self, connection: HttpConnection, make: Callable[[], HttpResponse], within_s: float) -> None:
        if not self._is_busy.acquire(blocking=False):
            connection.respond(HttpResponse(HTTPStatus.TOO_MANY_REQUESTS, b"another page is being made\n"))
            return
        connection.deadline_s = time.monotonic() + within_s + _ANSWER_S
        threading.Thread(target=self._make, args=(connection, make), name="debug", daemon=True).start()

    def _make(self, connection: HttpConnection, make: Callable[[], HttpResponse]) -> None:
        response = HttpResponse(HTTPStatus.INTERNAL_SERVER_ERROR, b"failed\n")
        try:
            response = make()
        finally:
            self._is_busy.release()
            self._server.call(partial(self._server.drive, connection, partial(connection.respond, response)))

    def _tasks(self) -> HttpResponse:
        body: dict[str, Any] = {}
        is_done = threading.Event()

        def collect() -> None:
            tasks = asyncio.all_tasks(self._loop)
            body["count"] = len(tasks)
            body["tasks"] = [_described(task) for task in islice(tasks, _TASKS_MAX)]
            is_done.set()

        self._loop.call_soon_threadsafe(collect)
        if not is_done.wait(_TASKS_S):
            return HttpResponse(HTTPStatus.SERVICE_UNAVAILABLE, b"the event loop does not respond\n")
        return HttpResponse(HTTPStatus.OK, json.dumps(body).encode(), _JSON)


def profile(seconds: int) -> HttpResponse:
    """Sample the stacks of all other threads; blocks. The lines are `thread;outer;inner COUNT`, as for flame graphs."""
    stacks: Counter[str] = Counter()
    own, ends_s = threading.get_ident(), time.monotonic() + seconds
    while time.monotonic() < ends_s:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():  # noqa: SLF001 -- the only way to see other threads
            if ident != own:
                stack = f"{names.get(ident, 'unknown')};{_folded(frame)}"
                stacks[stack if stack in stacks or len(stacks) < _STACKS_MAX else "too many stacks"] += 1
        time.sleep(_INTERVAL_S)
    lines = (f"{stack} {count}\n" for stack, count in stacks.most_common())
    return HttpResponse(HTTPStatus.OK, "".join(lines).encode())


def memory() -> HttpResponse:
    """Count objects and their own bytes by type, the largest first; those from before the start of serving excluded.

    Of many objects, only each n-th is examined, so that they are of all ages.
    """
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    objects = gc.get_objects()
    total = len(objects)
    examined = objects[:: -(-total // _OBJECTS_MAX)]
    for each in examined:
        kind = type(each)
        name = f"{kind.__module__}.{kind.__qualname__}"
        counts[name] += 1
        try:
            sizes[name] += sys.getsizeof(each)
        except Exception:  # noqa: BLE001, S112 -- an object of a library that has no size
            continue
    rows = [{"type": name, "count": counts[name], "bytes": size} for name, size in sizes.most_common(_TYPES_MAX)]
    body = {"objects": total, "examined": len(examined), "frozen": gc.get_freeze_count(), "types": rows}
    return HttpResponse(HTTPStatus.OK, json.dumps(body).encode(), _JSON)


def _is_local(connection: HttpConnection) -> bool:
    try:
        peer: Any = connection.sock.getpeername()
    except OSError:
        return False
    return not isinstance(peer, tuple) or ip_address(str(peer[0]).removeprefix("::ffff:")).is_loopback


def _described(task: "asyncio.Task[Any]") -> dict[str, str]:
    frames = task.get_stack(limit=1)
    where = f"{PurePath(frames[-1].f_code.co_filename).name}:{frames[-1].f_lineno}" if frames else ""
    return {"name": task.get_name(), "coroutine": getattr(task.get_coro(), "__qualname__", ""), "where": where}


def _folded(frame: FrameType | None) -> str:
    names: list[str] = []
    while frame is not None and len(names) < _DEPTH_MAX:
        code = frame.f_code
        names.append(f"{PurePath(code.co_filename).stem}.{code.co_qualname}")
        frame = frame.f_back
    return ";".join(reversed(names))
