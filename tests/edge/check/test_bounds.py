"""Connections of the check listener together: how many, how long, how much, and whose Envoy's is."""

import asyncio
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.clients.h2_peers import SETTLED, block, data, headers
from support.fakes.allowing_checker import AllowingChecker, check_request

from authz._pb.check_pb2 import CheckRequest, CheckResponse
from authz.edge import sockets
from authz.edge.check import acceptor, listener, peer
from authz.edge.check.listener import CheckListener
from authz.edge.check.messages import SERVICE

GREETING = SETTLED


@pytest.fixture(params=["tcp", "unix"])
async def check_listener(
    request: pytest.FixtureRequest, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CheckListener]:
    monkeypatch.setattr(sockets, "_SYNCOOKIES", scratch / "absent")  # the kernel holds nothing back
    checker: Any = AllowingChecker()
    address = "127.0.0.1:0" if request.param == "tcp" else f"unix:{scratch}/bounds.sock"
    made = CheckListener(checker, address, check_s_max=0.2, connections_max=8)
    await made.start()
    yield made
    await made.stop(0)


def target(made: CheckListener) -> str:
    return f"127.0.0.1:{made.port}" if made.port else made._listen  # noqa: SLF001 -- what it was told


@pytest.fixture
async def channel(check_listener: CheckListener) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(target(check_listener)) as channel:
        yield channel


async def allowed(channel: grpc.aio.Channel) -> bool:
    call = channel.unary_unary(
        f"/{SERVICE}/Check",
        request_serializer=CheckRequest.SerializeToString,
        response_deserializer=CheckResponse.FromString,
    )
    answer: CheckResponse = await call(check_request("/"), timeout=5)
    return answer.HasField("ok_response")


class Raw:
    """Connections without a library, which say only what a test says."""

    def __init__(self, made: CheckListener) -> None:
        self._listener = made
        self._sockets: list[socket.socket] = []

    def connect(self, count: int, said: bytes = b"") -> list[socket.socket]:
        made = []
        for _ in range(count):
            if self._listener.port:
                sock = socket.create_connection(("127.0.0.1", self._listener.port))
            else:
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(target(self._listener).removeprefix("unix:"))
            sock.sendall(said)
            sock.setblocking(False)
            made.append(sock)
        self._sockets += made
        return made

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def raw(check_listener: CheckListener) -> Iterator[Raw]:
    raw = Raw(check_listener)
    yield raw
    raw.close()


def is_open(sock: socket.socket) -> bool:
    try:
        while sock.recv(65_536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def settled(sockets: list[socket.socket], count: int) -> None:
    """Wait until only so many are open."""
    deadline_s = time.monotonic() + 10
    while sum(map(is_open, sockets)) != count:
        assert time.monotonic() < deadline_s, sum(map(is_open, sockets))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("said", [b"", GREETING], ids=["silent", "greeting"])
async def test_connections_without_a_request_make_room_and_envoys_stays(
    check_listener: CheckListener, channel: grpc.aio.Channel, raw: Raw, said: bytes
) -> None:
    assert await allowed(channel)
    crowd = []
    for _ in range(10):
        crowd += raw.connect(6, said)
        await asyncio.sleep(0.02)
    await settled(crowd, 7)
    assert await allowed(channel)
    assert len(check_listener.peers) <= 8
    async with grpc.aio.insecure_channel(target(check_listener), [("grpc.use_local_subchannel_pool", 1)]) as another:
        assert await allowed(another)


async def test_a_full_house_of_good_connections_refuses_the_newest(check_listener: CheckListener, raw: Raw) -> None:
    channels = [
        grpc.aio.insecure_channel(target(check_listener), [("grpc.use_local_subchannel_pool", 1)]) for _ in range(8)
    ]
    for channel in channels:
        assert await allowed(channel)
    await settled(raw.connect(3, GREETING), 0)
    for channel in channels:
        assert await allowed(channel)
        await channel.close()


async def test_a_connection_that_does_not_greet_or_never_asks_is_closed(
    check_listener: CheckListener, channel: grpc.aio.Channel, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_SILENCE_S_MAX", 0.1)
    monkeypatch.setattr(peer, "_HANDSHAKE_S_MAX", 0.1)
    monkeypatch.setattr(peer, "_UNPROVEN_S_MAX", 0.2)
    monkeypatch.setattr(peer, "_GOAWAY_S", 0.1)
    assert await allowed(channel)
    crowd = [*raw.connect(2), *raw.connect(2, b"PRI * HT"), *raw.connect(2, GREETING)]
    await settled(crowd, 0)
    assert await allowed(channel)
    assert len(check_listener.peers) == 1


async def test_an_idle_connection_that_was_of_use_gets_a_goaway(
    check_listener: CheckListener, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await allowed(channel)
    monkeypatch.setattr(peer, "_IDLE_S_MAX", 0.1)
    deadline_s = time.monotonic() + 10
    while check_listener.peers:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.05)
    monkeypatch.undo()
    assert await allowed(channel)


async def test_unfinished_uploads_are_bounded_over_all_connections(
    check_listener: CheckListener, channel: grpc.aio.Channel, raw: Raw
) -> None:
    assert await allowed(channel)
    check_listener.uploads._bytes_max = 300_000  # noqa: SLF001 -- a budget that a test can use up
    path = f"/{SERVICE}/Check"
    begun = headers(1, block(_path=path)) + data(1, b"\0\0\x0f\xff\xff" + bytes(16_379), 0)
    raw.connect(6, GREETING + begun + data(1, bytes(16_384), 0) * 9)
    deadline_s = time.monotonic() + 10
    while len(check_listener.peers) > 3:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)
    assert check_listener.uploads.used_bytes <= 300_000
    assert await allowed(channel)


async def test_the_process_total_of_calls_is_bounded(
    channel: grpc.aio.Channel, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_STREAMS_MAX", 100)
    assert await allowed(channel)
    crowd = raw.connect(4, GREETING + b"".join(headers(stream_id) for stream_id in range(1, 100, 2)))
    await settled(crowd, 2)
    assert await allowed(channel)


async def test_a_process_without_descriptors_goes_on_and_recovers(
    check_listener: CheckListener, channel: grpc.aio.Channel, raw: Raw
) -> None:
    assert await allowed(channel)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a count
    crowd = raw.connect(1)
    await asyncio.sleep(0.05)
    sockets = [socket.socket(socket.AF_INET if check_listener.port else socket.AF_UNIX) for _ in range(6)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
    try:
        for sock in sockets:
            sock.connect(("127.0.0.1", check_listener.port) if check_listener.port else target(check_listener)[5:])
        started_s = time.process_time()
        for _ in range(10):
            await asyncio.sleep(0.05)
            assert await allowed(channel)
        assert time.process_time() - started_s < 0.4  # it does not spin
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for sock in [*sockets, *crowd]:
            sock.close()
    await asyncio.sleep(0.2)
    async with grpc.aio.insecure_channel(target(check_listener), [("grpc.use_local_subchannel_pool", 1)]) as another:
        assert await allowed(another)
