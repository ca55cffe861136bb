"""The gRPC server over a real socket: it answers what was decided, and whatever breaks is never an allow."""

import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from support.builders import policy

from authz._pb.check_pb2 import CheckRequest, CheckResponse
from authz.core.check import Allow, Decision, Deny, RequestAttributes
from authz.core.errors import DenyReason, SettingsError
from authz.edge.check.messages import SERVICE
from authz.edge.grpc_server import GrpcServer
from authz.edge.sockets import SocketRights, listening_socket, port_of
from authz.service.check.batch import Answer

ROUTE = policy().routes[0]


class FixedChecker:
    """Answers every check with the same decision, or breaks."""

    policy = policy()

    def __init__(self) -> None:
        self.decision: Decision | Exception = Allow(ROUTE)
        self.received: list[RequestAttributes] = []

    def check(self, requests: Sequence[tuple[int, RequestAttributes]], answer: Answer, *_: object) -> None:
        for number, attributes in requests:
            self.received.append(attributes)
            if isinstance(self.decision, Exception):
                raise self.decision
            answer([(number, attributes, self.decision)])


@pytest.fixture
def checker() -> FixedChecker:
    return FixedChecker()


@pytest.fixture
async def channel(checker: FixedChecker) -> AsyncIterator[grpc.aio.Channel]:
    server = GrpcServer(checker, "127.0.0.1:0")  # type: ignore[arg-type]  # all that the server asks of a checker
    await server.start()
    await server.serve_health(serving=True)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    await server.stop(0)


def check(channel: grpc.aio.Channel) -> Any:  # noqa: ANN401 -- grpc has no types
    return channel.unary_unary(
        f"/{SERVICE}/Check",
        request_serializer=CheckRequest.SerializeToString,
        response_deserializer=CheckResponse.FromString,
    )


async def test_a_decision_is_answered(channel: grpc.aio.Channel, checker: FixedChecker) -> None:
    request = CheckRequest()
    request.attributes.request.http.path = "/v1/whoami"
    answer = await check(channel)(request)
    assert answer.status.code == 0
    assert answer.HasField("ok_response")
    assert checker.received[0].target == "/v1/whoami"
    checker.decision = Deny(DenyReason.BARRED)
    assert (await check(channel)(request)).denied_response.status.code == 403


async def test_a_check_that_breaks_is_an_error_and_no_allow(channel: grpc.aio.Channel, checker: FixedChecker) -> None:
    checker.decision = RuntimeError("broken")
    answer = await check(channel)(CheckRequest())
    assert answer.status.code == 14
    assert answer.error_response.status.code == 503
    assert "broken" not in str(answer)


async def test_an_empty_request_is_decided_like_any_other(channel: grpc.aio.Channel, checker: FixedChecker) -> None:
    await check(channel)(CheckRequest())
    (requests,) = checker.received
    assert (requests.request_id, requests.method, requests.target, requests.api_keys) == ("", "", "", ())


async def test_bytes_that_are_no_request_are_no_allow(channel: grpc.aio.Channel, checker: FixedChecker) -> None:
    call = channel.unary_unary(f"/{SERVICE}/Check")
    with pytest.raises(grpc.aio.AioRpcError):
        await call(b"\xff\xff\xff")
    assert checker.received == []


async def test_health_reports_the_state_that_was_set(checker: FixedChecker, tmp_path: Path) -> None:
    server = GrpcServer(checker, f"unix:{tmp_path}/authz.sock")  # type: ignore[arg-type]  # as above
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/authz.sock") as channel:
        ask = HealthStub(channel).Check
        for serving, expected in ((None, 2), (True, 1), (False, 2)):
            if serving is not None:
                await server.serve_health(serving=serving)
            for service in ("", SERVICE):
                assert (await ask(health_pb2.HealthCheckRequest(service=service))).status == expected
    await server.stop(0)


@pytest.mark.parametrize("form", ["port", "socket"])
async def test_an_address_that_is_in_use_is_one_line(checker: FixedChecker, tmp_path: Path, form: str) -> None:
    listen = "127.0.0.1:0" if form == "port" else f"unix:{tmp_path}/authz.sock"
    with listening_socket(listen) as first:
        first.listen()
        taken = f"127.0.0.1:{port_of(first)}" if form == "port" else listen
        with pytest.raises(SettingsError, match=f"^cannot listen on {taken}: Address already in use$"):
            GrpcServer(checker, taken)  # type: ignore[arg-type]  # as above


async def test_a_socket_has_the_rights_of_the_settings(checker: FixedChecker, tmp_path: Path) -> None:
    path = tmp_path / "authz.sock"
    with listening_socket(f"unix:{path}"):
        pass  # and leaves a stale socket
    server = GrpcServer(checker, f"unix:{path}", SocketRights(0o640))  # type: ignore[arg-type]  # as above
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    await server.start()
    await server.stop(0)
