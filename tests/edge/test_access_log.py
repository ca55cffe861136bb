"""Reports in Envoy's access log: the fields that are read, on both listeners."""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

import grpc
import pytest
from google.protobuf.message import DecodeError
from support.access_log_entries import ALIVE, END, OPENED_MS, RecordedReports, entry, fields, lease, message, report
from support.builders import policy
from support.clients.h2_peers import SETTLED, block, data, framed, headers

from authz.edge.access_log import METHOD, SERVICE, Reporter, reports
from authz.edge.check.listener import CheckListener
from authz.edge.grpc_server import GrpcServer


class Listener(Protocol):
    @property
    def port(self) -> int: ...
    async def start(self) -> None: ...
    async def stop(self, grace_s: float) -> None: ...


class Checker:
    """The part of a checker that listeners need for reports."""

    policy = policy()

    def __init__(self) -> None:
        self.leases = RecordedReports()


def test_a_sign_names_the_lease_and_whether_it_is_the_last() -> None:
    sent = message(entry(fields(lease(1)), ALIVE), entry(fields(lease(2)), END))
    assert list(reports(sent)) == [(lease(1), OPENED_MS, False), (lease(2), OPENED_MS, True)]


@pytest.mark.parametrize("name", ["lease_id", "account_id", "key_id", "stream"])
@pytest.mark.parametrize("text", ["", "a b", "a}b", "a\nb", "a:b", "x" * 129, "\N{SNOWMAN}"])
def test_an_entry_that_names_no_lease_or_an_impossible_one_is_passed_over(name: str, text: str) -> None:
    sent = message(entry(fields(lease(1)) | {name: text}, ALIVE), entry(fields(lease(2)), ALIVE))
    assert [sign[0] for sign in reports(sent)] == [None, lease(2)]


def test_entries_without_a_lease_are_complained_of_once_a_call(caplog: pytest.LogCaptureFixture) -> None:
    reports = RecordedReports()
    reporter = Reporter(reports)  # type: ignore[arg-type]  # all that it asks of leases
    for _ in range(3):
        assert reporter.receive(message(entry({}, ALIVE), entry(fields(lease(1)), ALIVE)))
    assert reports.signs == [("alive", lease(1))] * 3
    assert len(caplog.records) == 1


def test_a_message_of_another_kind_has_no_signs() -> None:
    assert list(reports(b"")) == []
    with pytest.raises(DecodeError):
        list(reports(b"\xff\xff"))


@pytest.fixture
def checker() -> Checker:
    return Checker()


@pytest.fixture(params=[partial(CheckListener, check_s_max=0.2), GrpcServer], ids=["check-listener", "grpc-server"])
async def listener(request: pytest.FixtureRequest, checker: Checker) -> AsyncIterator[Listener]:
    listener: Listener = request.param(checker, "127.0.0.1:0")
    await listener.start()
    yield listener
    await listener.stop(0)


@pytest.fixture
async def call(listener: Listener) -> AsyncIterator[grpc.aio.StreamUnaryCall[bytes, bytes]]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
        yield channel.stream_unary(f"/{SERVICE}/{METHOD}")()


async def until(checker: Checker, count: int) -> None:
    while len(checker.leases.signs) < count:
        await asyncio.sleep(0.005)


async def test_each_message_is_delivered_as_it_arrives(
    checker: Checker, call: grpc.aio.StreamUnaryCall[bytes, bytes]
) -> None:
    for number in range(5):
        await call.write(report(lease(number)))
        await until(checker, number + 1)
    await call.write(report(lease(4), END))
    await call.done_writing()
    assert await call == b""
    expected = [("alive", lease(number)) for number in range(5)]
    assert checker.leases.signs == [*expected, ("end", lease(4))]
    assert checker.leases.lost == 0


async def test_a_broken_call_is_reported(checker: Checker, call: grpc.aio.StreamUnaryCall[bytes, bytes]) -> None:
    await call.write(report(lease()))
    await until(checker, 1)
    call.cancel()
    while not checker.leases.lost:
        await asyncio.sleep(0.005)
    assert checker.leases.lost == 1


async def test_a_message_that_cannot_be_read_ends_the_call(
    checker: Checker, call: grpc.aio.StreamUnaryCall[bytes, bytes]
) -> None:
    await call.write(report(lease()))
    await call.write(b"\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    assert checker.leases.signs == [("alive", lease())]
    assert checker.leases.lost == 1


async def test_a_drain_answers_the_call_at_once_and_is_no_breaking_off(
    listener: Listener, checker: Checker, call: grpc.aio.StreamUnaryCall[bytes, bytes]
) -> None:
    await call.write(report(lease()))
    await until(checker, 1)
    stopping = asyncio.create_task(listener.stop(10))
    assert await asyncio.wait_for(call, 5) == b""
    await asyncio.wait_for(stopping, 5)
    assert checker.leases.lost == 0


async def test_what_arrived_before_the_connection_broke_is_delivered(checker: Checker) -> None:
    listener = CheckListener(checker, "127.0.0.1:0", check_s_max=0.2)  # type: ignore[arg-type]  # all that it asks of a checker here
    await listener.start()
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.transport.set_write_buffer_limits(0)
    ends = [data(1, framed(report(lease(number), END)), 0) for number in range(50)]
    writer.write(SETTLED + headers(1, block(_path=f"/{SERVICE}/{METHOD}")) + ends[0])
    await until(checker, 1)
    (peer,) = listener.peers
    peer.pause_writing()  # which stops reading: the rest waits in the kernel
    for end in ends[1:]:
        writer.write(end)
    await writer.drain()
    while unacknowledged(writer):
        await asyncio.sleep(0.005)
    # Its end is a reset.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    await writer.wait_closed()
    peer.drain()  # writes, and so finds out
    while listener.peers:
        await asyncio.sleep(0.005)
    assert checker.leases.signs == [("end", lease(number)) for number in range(50)]
    await listener.stop(0)


def unacknowledged(writer: asyncio.StreamWriter) -> int:
    waiting = struct.pack("i", 0)
    count: int = struct.unpack("i", fcntl.ioctl(writer.get_extra_info("socket"), termios.TIOCOUTQ, waiting))[0]
    return count
