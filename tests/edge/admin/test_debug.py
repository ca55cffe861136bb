"""The debug pages: off by default, for this machine only, one at a time, and bounded."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from authz.adapters.prometheus.checks import Metrics, registry
from authz.edge.admin.connection import HttpConnection, HttpLimits
from authz.edge.admin.debug import DebugPages, memory, profile
from authz.edge.admin.messages import HttpRequest
from authz.edge.admin.server import AdminServer

PATHS = ["/debug/profile/1", "/debug/tasks", "/debug/memory", "/debug/", "/debug"]


async def serving(*, has_debug: bool, listen: str = "127.0.0.1:0") -> AdminServer:
    server = AdminServer(registry(Metrics(dict)), dict, listen, has_debug=has_debug)
    server.start()
    return server


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    server = await serving(has_debug=True)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=20) as client:
        yield client
    await server.stop()


async def test_without_the_setting_there_is_no_page() -> None:
    server = await serving(has_debug=False)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        assert [(await client.get(path)).status_code for path in PATHS] == [404] * len(PATHS)
    await server.stop()


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 400), ("::1", 400), ("::ffff:127.0.0.1", 400), ("10.0.0.7", 404), ("fe80::1", 404)],
)
def test_only_this_machine_is_served(address: str, status: int) -> None:
    connection = HttpConnection(_Peer(address), HttpLimits(), lambda *_: None)  # type: ignore[arg-type]
    answered: list[int] = []
    connection.respond = lambda response: answered.append(response.status)  # type: ignore[method-assign]
    pages = DebugPages(None, None)  # type: ignore[arg-type]  # a page that does not exist needs neither
    pages.serve(connection, HttpRequest("GET", "/debug/profile/none", "", keeps_alive=True))
    assert answered == [status]


class _Peer:
    def __init__(self, address: str) -> None:
        self._address = address

    def getpeername(self) -> tuple[str, int]:
        return self._address, 1


@pytest.mark.parametrize("seconds", ["0", "31", "-1", "1.5", "", "x", "99999999999999999999", "1/2", "٣"])
async def test_a_profile_is_of_one_to_thirty_seconds(client: httpx.AsyncClient, seconds: str) -> None:
    assert (await client.get(f"/debug/profile/{seconds}")).status_code == 400


async def test_a_profile_names_the_function_that_uses_the_cpu(client: httpx.AsyncClient) -> None:
    is_over = threading.Event()

    def burn_all_the_time() -> None:
        while not is_over.is_set():
            sum(range(1_000))

    thread = threading.Thread(target=burn_all_the_time, name="burner")
    thread.start()
    try:
        first, second = await asyncio.gather(client.get("/debug/profile/1"), _later(client))
    finally:
        is_over.set()
        thread.join()
    assert sorted([first.status_code, second.status_code]) == [200, 429]
    text = (first if first.status_code == 200 else second).text
    counts = {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in text.splitlines()}
    burning = sum(count for stack, count in counts.items() if stack.startswith("burner;") and "burn_all" in stack)
    assert burning > 10
    assert (await client.get("/debug/tasks")).status_code == 200  # the lock is free again


async def _later(client: httpx.AsyncClient) -> httpx.Response:
    await asyncio.sleep(0.3)
    return await client.get("/debug/profile/1")


async def test_the_tasks_of_the_event_loop_are_named(client: httpx.AsyncClient) -> None:
    task = asyncio.get_running_loop().create_task(asyncio.sleep(30), name="a named task")
    await asyncio.sleep(0)
    found = (await client.get("/debug/tasks")).json()
    task.cancel()
    assert found["count"] == len(found["tasks"]) >= 2
    assert "a named task" in {each["name"] for each in found["tasks"]}


def test_memory_is_counted_by_type() -> None:
    class Held:
        pass

    kept = [Held() for _ in range(50_000)]
    body = memory().body.decode()
    assert f"{Held.__module__}.{Held.__qualname__}" in body
    assert len(kept) == 50_000


def test_a_profile_ends_in_time() -> None:
    started_s = time.monotonic()
    assert profile(1).status == 200
    assert time.monotonic() - started_s < 3


def test_a_unix_socket_is_this_machine() -> None:
    left, right = socket.socketpair()
    connection = HttpConnection(left, HttpLimits(), lambda *_: None)
    DebugPages(None, None).serve(  # type: ignore[arg-type]  # as above
        connection, HttpRequest("GET", "/debug/none", "", keeps_alive=True)
    )
    assert b"404" in right.recv(100)
    left.close()
    right.close()
