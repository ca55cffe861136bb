"""TLS on the admin listener: who is served, and that what clients do to TLS stops nothing."""

import asyncio
import http.client
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from support.certificates import MountedFiles

from authz.check_transport import admin_tls, portal_admin_tls
from authz.core.errors import SettingsError
from authz.edge.admin.server import AdminServer
from authz.edge.check.tls import CheckTls, TlsFiles
from authz.settings import Settings, load


class Metrics:
    def snapshot(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        for number in range(400):  # more than a record of TLS
            Counter(f"made_{number}", "A text.", registry=registry)
        return registry


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> MountedFiles:
    return MountedFiles(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=[False, True], ids=["any client", "clients of a CA"])
async def server(request: pytest.FixtureRequest, files: MountedFiles) -> AsyncIterator[AdminServer]:
    mounted = files.mounted
    client_ca = mounted.client_ca if request.param else None
    tls = CheckTls(TlsFiles(mounted.certificate, mounted.key, client_ca, protocols=("http/1.1",)))
    made = AdminServer(Metrics(), lambda: {"redis": True}, "127.0.0.1:0", tls=tls)
    made.start()
    yield made
    await made.stop()


def context(files: MountedFiles, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=files.authority.certificate)
    if client:
        made.load_cert_chain(*client)
    return made


def fetched(server: AdminServer, trusted: ssl.SSLContext, *paths: str) -> list[tuple[int, int]]:
    """Return the status and length of each, on one connection."""
    connection = http.client.HTTPSConnection("localhost", server.port, context=trusted, timeout=5)
    answers = []
    with closing(connection):
        for path in paths:
            connection.request("GET", path)
            answer = connection.getresponse()
            answers.append((answer.status, len(answer.read())))
    return answers


async def test_probes_and_metrics_are_served_on_one_connection(server: AdminServer, files: MountedFiles) -> None:
    client = context(files, files.authority.issue("DNS:prometheus"))
    answers = await asyncio.to_thread(fetched, server, client, "/healthz", "/metrics", "/readyz", "/other")
    assert [status for status, _ in answers] == [200, 200, 200, 404]
    assert answers[1][1] > 32_768


@pytest.mark.parametrize("server", [True], indirect=True)
@pytest.mark.parametrize("kind", ["none", "foreign", "expired"])
async def test_clients_without_a_certificate_of_the_ca_are_not_served(
    server: AdminServer, files: MountedFiles, kind: str
) -> None:
    clients: dict[str, Callable[[], tuple[Path, Path] | None]] = {
        "none": lambda: None,
        "foreign": lambda: files.foreign.issue("DNS:prometheus"),
        "expired": lambda: files.authority.issue("DNS:prometheus", is_expired=True),
    }
    trusted = context(files, clients[kind]())
    with pytest.raises((OSError, http.client.HTTPException)):
        await asyncio.to_thread(fetched, server, trusted, "/healthz")


async def test_plain_text_silence_and_early_ends_stop_nothing(server: AdminServer, files: MountedFiles) -> None:
    for sent in (b"GET /healthz HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\x00" * 20_000, b""):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
                raw.sendall(sent)
                with suppress(ConnectionResetError):
                    assert not (sent.startswith(b"GET") and b"HTTP" in await asyncio.to_thread(raw.recv, 4_096))
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(70)]
    client = context(files, files.authority.issue("DNS:prometheus"))
    assert await asyncio.to_thread(fetched, server, client, "/healthz") == [(200, 3)]
    for each in silent:
        each.close()


async def test_two_requests_in_one_record_both_get_a_response(server: AdminServer, files: MountedFiles) -> None:
    def both() -> bytes:
        client = context(files, files.authority.issue("DNS:prometheus"))
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw,
            client.wrap_socket(raw, server_hostname="localhost") as wrapped,
        ):
            wrapped.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\nGET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            received = b""
            while received.count(b"ok\n") < 2:
                received += wrapped.recv(4_096)
            return received

    assert (await asyncio.to_thread(both)).count(b"200 OK") == 2


@pytest.mark.parametrize(
    "given", [{"certificate_file": "a.crt"}, {"key_file": "a.key"}, {"client_ca_file": "ca.crt"}], ids=str
)
@pytest.mark.parametrize("listener", ["admin", "portal_admin"])
def test_files_that_do_not_belong_together_are_refused(listener: str, given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=f"AUTHZ_{listener.upper()}_.* need"):
        load(**{f"{listener}_{name}": file for name, file in given.items()})


@pytest.mark.parametrize(("listener", "tls"), [("admin", admin_tls), ("portal_admin", portal_admin_tls)])
def test_a_file_without_a_certificate_is_an_error_of_the_settings(
    tmp_path: Path, listener: str, tls: Callable[[Settings], CheckTls | None]
) -> None:
    (tmp_path / "tls.crt").write_text("none")
    settings = load(
        **{f"{listener}_certificate_file": tmp_path / "tls.crt", f"{listener}_key_file": tmp_path / "tls.key"}
    )
    with pytest.raises(SettingsError, match=f"AUTHZ_{listener.upper()}_CERTIFICATE_FILE and its key cannot be used"):
        tls(settings)
    assert tls(load()) is None
