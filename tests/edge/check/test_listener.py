"""The hot path's listener over real sockets: grpcio as the peer; answers late, out of order, or never wanted."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived
from support.fakes.allowing_checker import GRPC_CALL, AllowingChecker, check_request, listener_on

from authz._pb.check_pb2 import CheckRequest, CheckResponse
from authz.core.check import Deny
from authz.core.errors import DenyReason
from authz.edge.check.listener import CheckListener
from authz.edge.check.messages import SERVICE


def check(channel: grpc.aio.Channel) -> Any:  # noqa: ANN401 -- grpc has no types
    return channel.unary_unary(
        f"/{SERVICE}/Check",
        request_serializer=CheckRequest.SerializeToString,
        response_deserializer=CheckResponse.FromString,
    )


def account(answer: CheckResponse) -> str:
    return answer.ok_response.headers[0].header.value


async def test_a_check_is_answered_again_and_again(channel: grpc.aio.Channel) -> None:
    for number in range(50):
        assert account(await check(channel)(check_request(f"/{number}"))) == f"/{number}"


async def test_each_answer_reaches_its_own_call(channel: grpc.aio.Channel, checker: AllowingChecker) -> None:
    chance = random.Random(3)  # noqa: S311 -- a test's delays
    checker.delay_s = lambda: chance.choice([0, 0.001, 0.01, 0.03])
    for _ in range(8):
        calls = [check(channel)(check_request(f"/{number}")) for number in range(256)]
        for call in chance.sample(calls, 40):
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for number, answer in enumerate(answers):
            if not isinstance(answer, BaseException):
                assert account(answer) == f"/{number}"
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        assert len(failures) <= 40
        assert all(isinstance(failure, asyncio.CancelledError) for failure in failures)


async def test_a_check_that_breaks_is_an_error_and_no_allow(
    channel: grpc.aio.Channel, checker: AllowingChecker
) -> None:
    checker.failure = RuntimeError("broken")
    answer = await check(channel)(check_request("/"))
    assert answer.status.code == 14
    assert answer.error_response.status.code == 503
    assert "broken" not in str(answer)


async def test_headers_that_cannot_be_read_are_an_error_that_costs_the_others_nothing(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    broken = check_request("/")
    broken.attributes.request.http.header_map = b"\x0a\xff"
    calls = [check(channel)(request) for request in (check_request("/1"), broken, check_request("/2"))]
    first, answer, second = await asyncio.gather(*calls)
    assert (account(first), account(second)) == ("/1", "/2")
    assert (answer.status.code, answer.error_response.status.code) == (14, 503)
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("WARNING", None)]


async def test_an_answer_that_cannot_be_written_is_an_error(
    channel: grpc.aio.Channel, checker: AllowingChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    denial = Deny(DenyReason.BARRED)
    monkeypatch.setattr(checker, "check", lambda _attributes, answer: answer(None if denial else denial))
    answer = await check(channel)(check_request("/"))
    assert answer.status.code != 0


@pytest.mark.parametrize(
    ("method", "message", "code"),
    [
        (f"/{SERVICE}/Check", b"\xff\xff", grpc.StatusCode.INTERNAL),
        (f"/{SERVICE}/Other", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("/grpc.health.v1.Health/Check", b"\xff\xff", grpc.StatusCode.INTERNAL),
        ("/grpc.health.v1.Health/Check", b"\x0a\x01x", grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_what_is_not_served_has_a_status(
    channel: grpc.aio.Channel, method: str, message: bytes, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_unary(method)(message)
    assert raised.value.code() == code


async def test_compression_is_refused(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await check(channel)(check_request("/" + "a" * 5000), compression=grpc.Compression.Gzip)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_large_request_arrives_whole_and_a_huge_one_is_refused(channel: grpc.aio.Channel) -> None:
    target = "/" + "a" * 200_000
    assert account(await check(channel)(check_request(target))) == target
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await check(channel)(check_request("/" + "a" * (1 << 20)))
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health_reports_the_state_that_was_set(listener: CheckListener, channel: grpc.aio.Channel) -> None:
    ask = HealthStub(channel).Check
    for is_serving, expected in ((True, 1), (False, 2)):
        listener.serve_health(serving=is_serving)
        for service in ("", SERVICE):
            assert (await ask(health_pb2.HealthCheckRequest(service=service))).status == expected


async def test_a_stop_lets_calls_under_way_finish(
    listener: CheckListener, channel: grpc.aio.Channel, checker: AllowingChecker
) -> None:
    await check(channel)(check_request("/"))
    checker.delay_s = lambda: 0.1
    calls = [asyncio.ensure_future(check(channel)(check_request(f"/{number}"))) for number in range(20)]
    await asyncio.sleep(0.05)
    await listener.stop(5)
    assert [account(await call) for call in calls] == [f"/{number}" for number in range(20)]
    assert listener.peers == set()


async def test_a_stop_waits_no_longer_than_its_grace(
    listener: CheckListener, channel: grpc.aio.Channel, checker: AllowingChecker
) -> None:
    checker.delay_s = lambda: 60
    call = asyncio.ensure_future(check(channel)(check_request("/")))
    while not listener.peers:
        await asyncio.sleep(0.01)
    await listener.stop(0.05)
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def statuses(listener: CheckListener, patience: str) -> dict[bytes, bytes]:
    """Call once with a grpc-timeout, and return the header fields of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    peer = H2Connection(H2Configuration(header_encoding=None))
    peer.initiate_connection()
    message = check_request("/patient").SerializeToString()
    peer.send_headers(1, [*GRPC_CALL.items(), ("grpc-timeout", patience)])
    peer.send_data(1, b"\0" + len(message).to_bytes(4) + message, end_stream=True)
    seen: dict[bytes, bytes] = {}
    while b"grpc-status" not in seen:
        writer.write(peer.data_to_send())
        for event in peer.receive_data(await reader.read(65_536)):
            if isinstance(event, ResponseReceived | TrailersReceived):
                seen |= dict(event.headers)
    writer.close()
    return seen


async def test_a_caller_is_answered_within_its_timeout(listener: CheckListener, checker: AllowingChecker) -> None:
    checker.delay_s = lambda: 0.15
    before_s = time.monotonic()
    assert (await statuses(listener, "20m"))[b"grpc-status"] == b"4"
    assert time.monotonic() - before_s < 0.1
    # Who waits long enough gets the answer, and one that comes too late goes nowhere.
    assert (await statuses(listener, "180m"))[b"grpc-status"] == b"0"
    assert (await statuses(listener, "2S"))[b"grpc-status"] == b"0"


async def test_a_peer_that_speaks_no_http_2_is_shown_out(listener: CheckListener) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert b"not HTTP/2" in await reader.read()
    writer.close()


async def test_a_peer_that_does_not_read_gets_no_more_calls(listener: CheckListener, checker: AllowingChecker) -> None:
    (peer,) = [listener._peer()]  # noqa: SLF001 -- the protocol alone, on a transport that counts
    paused: list[str] = []

    class Transport:
        def write(self, data: bytes) -> None:
            assert data

        def pause_reading(self) -> None:
            paused.append("paused")

        def resume_reading(self) -> None:
            paused.append("resumed")

    peer.connection_made(Transport())  # type: ignore[arg-type]  # what a peer asks of a transport
    peer.pause_writing()
    peer.resume_writing()
    assert paused == ["paused", "resumed"]
    peer.connection_lost(None)
    assert checker.failure is None


async def test_a_unix_socket_serves_too(checker: AllowingChecker, scratch: Path) -> None:
    listener = listener_on(checker, f"unix:{scratch}/check.sock")
    assert listener.port == 0
    await listener.stop(0)
    await listener.start()
    assert listener.port == 0
    async with grpc.aio.insecure_channel(f"unix:{scratch}/check.sock") as channel:
        assert account(await check(channel)(check_request("/unix"))) == "/unix"
    await listener.stop(1)
