"""TLS on the gRPC listener: who connects, who does not, and rotation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.certificates import MountedFiles
from support.fakes.allowing_checker import AllowingChecker, check_request

from authz._pb.check_pb2 import CheckRequest, CheckResponse
from authz.edge.check.messages import SERVICE
from authz.edge.check.tls import CheckTls
from authz.edge.grpc_server import GrpcServer

ENVOY = "spiffe://cluster.local/ns/gateway/sa/envoy"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> MountedFiles:
    return MountedFiles(tmp_path_factory.mktemp("tls"), ENVOY)


@pytest.fixture
async def server(files: MountedFiles) -> AsyncIterator[GrpcServer]:
    made = GrpcServer(AllowingChecker(), "127.0.0.1:0", tls=CheckTls(files.mounted))  # type: ignore[arg-type]
    await made.start()
    await made.serve_health(serving=True)
    yield made
    await made.stop(0)


def channel(server: GrpcServer, root: Path, client: tuple[Path, Path] | None) -> Any:  # noqa: ANN401 -- grpc has no types
    chain, key = (client[0].read_bytes(), client[1].read_bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(root.read_bytes(), key, chain)
    secure: Any = grpc.aio.secure_channel
    return secure(f"localhost:{server.port}", credentials, options=[("grpc.use_local_subchannel_pool", 1)])


async def checked(connected: Any) -> Any:  # noqa: ANN401 -- grpc has no types
    call = connected.unary_unary(
        f"/{SERVICE}/Check",
        request_serializer=CheckRequest.SerializeToString,
        response_deserializer=CheckResponse.FromString,
    )
    return await call(check_request("/"), timeout=5)


async def test_a_client_with_an_admitted_name_gets_checks_and_health(server: GrpcServer, files: MountedFiles) -> None:
    async with channel(server, files.authority.certificate, files.authority.issue(f"URI:{ENVOY}")) as connected:
        assert (await checked(connected)).status.code == 0
        health = health_pb2_grpc.HealthStub(connected)
        request = health_pb2.HealthCheckRequest()
        assert (await health.Check(request, timeout=5)).status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(request, timeout=5)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


@pytest.mark.parametrize("kind", ["none", "expired", "foreign", "another name"])
async def test_no_other_client_gets_a_response(server: GrpcServer, files: MountedFiles, kind: str) -> None:
    clients: dict[str, Callable[[], tuple[Path, Path] | None]] = {
        "none": lambda: None,
        "expired": lambda: files.authority.issue(f"URI:{ENVOY}", is_expired=True),
        "foreign": lambda: files.foreign.issue(f"URI:{ENVOY}"),
        "another name": lambda: files.authority.issue(f"URI:{ENVOY}-2"),
    }
    async with channel(server, files.authority.certificate, clients[kind]()) as connected:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await checked(connected)
        with pytest.raises(grpc.aio.AioRpcError):
            await health_pb2_grpc.HealthStub(connected).Watch(health_pb2.HealthCheckRequest(), timeout=3).read()
    # The last one has a certificate of the CA; its calls are refused one by one.
    name_refused = refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert name_refused == (kind == "another name")


async def test_plain_text_gets_no_response(server: GrpcServer) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as connected:
        with pytest.raises(grpc.aio.AioRpcError):
            await checked(connected)


async def test_a_rotation_is_used_by_new_connections_and_half_of_one_is_not(
    server: GrpcServer, files: MountedFiles
) -> None:
    client = files.authority.issue(f"URI:{ENVOY}")
    await asyncio.to_thread(files.rotate)
    async with channel(server, files.authority.certificate, client) as open_before:
        assert (await checked(open_before)).status.code == 0
        files.mounted.certificate.write_bytes(files.authority.issue("DNS:localhost")[0].read_bytes())  # without its key
        async with channel(server, files.authority.certificate, client) as connected:
            assert (await checked(connected)).status.code == 0
        # Another authority on both sides: only clients that trust the new one connect from now on.
        pair = files.foreign.issue("DNS:localhost")
        for source, target in zip(pair, (files.mounted.certificate, files.mounted.key), strict=True):
            target.write_bytes(source.read_bytes())
        async with channel(server, files.foreign.certificate, client) as connected:
            assert (await checked(connected)).status.code == 0
        assert (await checked(open_before)).status.code == 0
    await asyncio.to_thread(files.rotate)
