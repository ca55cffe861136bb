"""TLS on the check listener: who connects, who does not, and a rotation under load that loses no check."""

import asyncio
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.certificates import MountedFiles
from support.fakes.allowing_checker import AllowingChecker, check_request

from authz._pb.check_pb2 import CheckRequest, CheckResponse
from authz.core.errors import SettingsError
from authz.edge.check.listener import CheckListener
from authz.edge.check.messages import SERVICE
from authz.edge.check.tls import CheckTls, TlsFiles
from authz.settings import load

ENVOY = "spiffe://cluster.local/ns/gateway/sa/envoy"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> MountedFiles:
    return MountedFiles(tmp_path_factory.mktemp("tls"), ENVOY)


@pytest.fixture
async def listener(files: MountedFiles) -> AsyncIterator[CheckListener]:
    made = CheckListener(AllowingChecker(), "127.0.0.1:0", check_s_max=1, tls=CheckTls(files.mounted))  # type: ignore[arg-type]
    await made.start()
    made.serve_health(serving=True)
    yield made
    await made.stop(0)


def channel(listener: CheckListener, files: MountedFiles, client: tuple[Path, Path] | None) -> grpc.aio.Channel:
    chain, key = (client[0].read_bytes(), client[1].read_bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(files.authority.certificate.read_bytes(), key, chain)
    # Without a pool of connections that all channels of the process share.
    options = [("grpc.use_local_subchannel_pool", 1)]
    secure: Any = grpc.aio.secure_channel
    made: grpc.aio.Channel = secure(f"localhost:{listener.port}", credentials, options=options)
    return made


def check(channel: grpc.aio.Channel) -> Any:  # noqa: ANN401 -- grpc has no types
    return channel.unary_unary(
        f"/{SERVICE}/Check",
        request_serializer=CheckRequest.SerializeToString,
        response_deserializer=CheckResponse.FromString,
    )


async def test_a_client_with_an_admitted_name_is_answered(listener: CheckListener, files: MountedFiles) -> None:
    client = files.authority.issue(f"URI:{ENVOY}")
    async with channel(listener, files, client) as connected:
        for number in range(20):
            answer = await check(connected)(check_request(f"/{number}"), timeout=5)
            assert answer.status.code == 0


@pytest.mark.parametrize("kind", ["none", "expired", "foreign", "another name", "its name as a prefix", "a name in CN"])
async def test_no_other_client_gets_an_answer(listener: CheckListener, files: MountedFiles, kind: str) -> None:
    clients: dict[str, Callable[[], tuple[Path, Path] | None]] = {
        "none": lambda: None,
        "expired": lambda: files.authority.issue(f"URI:{ENVOY}", is_expired=True),
        "foreign": lambda: files.foreign.issue(f"URI:{ENVOY}"),
        "another name": lambda: files.authority.issue("URI:spiffe://cluster.local/ns/other/sa/envoy"),
        "its name as a prefix": lambda: files.authority.issue(f"URI:{ENVOY}-2"),
        "a name in CN": lambda: files.authority.issue("DNS:leaf"),
    }
    client = clients[kind]()
    async with channel(listener, files, client) as connected:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await check(connected)(check_request("/"), timeout=3)
    assert refused.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert not listener.peers


async def test_plain_text_gets_no_answer(listener: CheckListener) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as connected:
        with pytest.raises(grpc.aio.AioRpcError):
            await check(connected)(check_request("/"), timeout=3)


async def test_a_silent_handshake_does_not_stop_others(listener: CheckListener, files: MountedFiles) -> None:
    silent = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(50)]
    for each in silent:
        each.send(b"\x16\x03\x01")
    async with channel(listener, files, files.authority.issue(f"URI:{ENVOY}")) as connected:
        assert (await check(connected)(check_request("/"), timeout=5)).status.code == 0
    for each in silent:
        each.close()


async def test_a_rotation_under_load_loses_no_check(listener: CheckListener, files: MountedFiles) -> None:
    client = files.authority.issue(f"URI:{ENVOY}")
    seen: set[str] = set()
    ended = asyncio.Event()

    async def checks(fresh: bool) -> int:  # noqa: FBT001 -- a test's own
        count = 0
        while not ended.is_set():
            async with channel(listener, files, client) as connected:
                for number in range(5 if fresh else 200):
                    answer = await check(connected)(check_request(f"/{number}"), timeout=5)
                    assert answer.status.code == 0
                    count += 1
                    if ended.is_set():
                        break
        return count

    running = [asyncio.create_task(checks(fresh)) for fresh in (True, True, False, False)]
    for _ in range(8):
        await asyncio.sleep(0.25)
        await asyncio.to_thread(files.rotate)
        seen.add(await asyncio.to_thread(serial, listener, client))
    ended.set()
    counts = await asyncio.gather(*running)
    assert min(counts) > 20
    assert len(seen) == 8


def serial(listener: CheckListener, client: tuple[Path, Path]) -> str:
    """Return the fingerprint of the certificate that the listener shows now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(*client)
    with (
        socket.create_connection(("127.0.0.1", listener.port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        return (wrapped.getpeercert(binary_form=True) or b"").hex()


async def test_half_a_rotation_keeps_the_present_certificate(listener: CheckListener, files: MountedFiles) -> None:
    client = files.authority.issue(f"URI:{ENVOY}")
    before = await asyncio.to_thread(serial, listener, client)
    other, key = files.authority.issue("DNS:localhost")
    shutil.copy(other, files.mounted.certificate)  # its key is not there yet
    assert await asyncio.to_thread(serial, listener, client) == before
    files.mounted.key.unlink()
    assert await asyncio.to_thread(serial, listener, client) == before
    shutil.copy(key, files.mounted.key)
    assert await asyncio.to_thread(serial, listener, client) != before


@pytest.mark.parametrize("listen", ["0.0.0.0:9001", "[::]:9001", "10.0.0.1:9001", "authz.example:9001", ":9001"])
def test_plain_text_for_other_machines_needs_a_setting(listen: str) -> None:
    for variable in ("check_listen", "grpc_listen"):
        with pytest.raises(SettingsError, match="AUTHZ_CHECK_PLAIN_TEXT"):
            load(**{variable: listen})
        assert load(**{variable: listen}, check_plain_text=True)


@pytest.mark.parametrize("listen", ["127.0.0.1:9001", "127.0.0.2:9001", "[::1]:9001", "localhost:9001", "unix:/run/a"])
def test_plain_text_on_this_machine_needs_none(listen: str) -> None:
    assert load(check_listen=listen, grpc_listen=listen)


@pytest.mark.parametrize(
    "given",
    [
        {"check_certificate_file": "a.crt"},
        {"check_key_file": "a.key"},
        {"check_client_ca_file": "ca.crt"},
        {"check_certificate_file": "a.crt", "check_key_file": "a.key", "check_client_names": "envoy"},
    ],
)
def test_files_that_do_not_belong_together_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="need"):
        load(**given)


def test_an_encrypted_key_is_an_error_and_no_question(files: MountedFiles, tmp_path: Path) -> None:
    encrypted = tmp_path / "encrypted.key"
    command = f"openssl ec -in {files.mounted.key} -aes256 -passout pass:x -out {encrypted} 2>/dev/null"
    assert os.system(command) == 0  # noqa: S605 -- a test's own
    with pytest.raises(OSError, match=r".*"):
        CheckTls(TlsFiles(files.mounted.certificate, encrypted))
