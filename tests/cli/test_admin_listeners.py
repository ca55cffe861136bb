"""Commands read admin listeners over TLS: they trust one CA, show their own certificate, and expect a name."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from support.certificates import MountedFiles
from support.stream_server import stream_server
from typer.testing import CliRunner

from authz.adapters.prometheus.checks import Metrics, registry
from authz.cli.app import app
from authz.edge.admin.server import AdminServer
from authz.edge.check.tls import CheckTls, TlsFiles

COMMANDS = {
    "top": ("top", "--once", "--interval", "0.1"),
    "policy status": ("policy", "status"),
    "doctor": ("doctor", "--admin"),
}
# What a command prints of a listener only if it has read it.
READ = {"top": "  ok  ", "policy status": "abcdef123456", "doctor": "readyz 200"}


class NoMetrics:
    """The metrics of a process that has decided nothing."""

    def snapshot(self) -> CollectorRegistry:
        return registry(Metrics(lambda: {"redis": True})).snapshot()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> MountedFiles:
    return MountedFiles(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def client(files: MountedFiles) -> tuple[str, ...]:
    certificate, key = files.authority.issue("DNS:operator")
    return "--certificate-file", str(certificate), "--key-file", str(key)


@pytest.fixture
async def port(files: MountedFiles) -> AsyncIterator[int]:
    """Serve clients of the CA only, under the name localhost."""
    mounted = files.mounted
    tls = CheckTls(TlsFiles(mounted.certificate, mounted.key, mounted.client_ca, protocols=("http/1.1",)))
    server = AdminServer(
        NoMetrics(), lambda: {"redis": True}, "127.0.0.1:0", tls=tls, policy=lambda: {"digest": "abcdef123456"}
    )
    server.start()
    yield server.port
    await server.stop()


async def run(command: str, address: str, *options: str) -> str:
    """Return what the command prints about the address."""
    result = await asyncio.to_thread(CliRunner().invoke, app, [*COMMANDS[command], address, *options])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return "\n".join(line for line in result.output.splitlines() if address in line)


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_listener_is_read_by_its_ca_and_with_a_certificate(
    command: str, port: int, files: MountedFiles, client: Sequence[str]
) -> None:
    ca = ("--ca-file", str(files.authority.certificate))
    for address in (f"localhost:{port}", f"https://localhost:{port}"):
        out = await run(command, address, *ca, *client)
        assert READ[command] in out, out
    by_name = await run(command, f"127.0.0.1:{port}", *ca, *client, "--server-name", "localhost")
    assert READ[command] in by_name, by_name


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", ["foreign CA", "system's CAs", "other name", "no certificate", "plain text"])
async def test_nothing_is_read_of_a_listener_that_is_not_proven(
    command: str, case: str, port: int, files: MountedFiles, client: Sequence[str]
) -> None:
    ca, foreign = (("--ca-file", str(each.certificate)) for each in (files.authority, files.foreign))
    address, options = {
        "foreign CA": (f"localhost:{port}", (*foreign, *client)),
        "system's CAs": (f"https://localhost:{port}", tuple(client)),
        "other name": (f"localhost:{port}", (*ca, *client, "--server-name", "authz.example")),
        "no certificate": (f"localhost:{port}", ca),
        "plain text": (f"http://localhost:{port}", ()),
    }[case]
    out = await run(command, address, *options)
    assert address in out
    assert READ[command] not in out


@pytest.mark.parametrize("command", COMMANDS)
async def test_unusable_files_are_wrong_usage(command: str, tmp_path: Path, files: MountedFiles) -> None:
    (tmp_path / "none.pem").write_text("none")
    certificate, key = map(str, files.authority.issue("DNS:operator"))
    _, other_key = map(str, files.authority.issue("DNS:operator"))
    for options in (
        ("--ca-file", str(tmp_path / "none.pem")),
        ("--ca-file", str(tmp_path / "missing.pem")),
        ("--certificate-file", certificate),
        ("--key-file", key),
        ("--certificate-file", certificate, "--key-file", other_key),
    ):
        words = [*COMMANDS[command], "localhost:1", *options]
        result = await asyncio.to_thread(CliRunner().invoke, app, words)
        assert result.exit_code == 2, (options, result.output)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("secret", ["ada:hunter2@", ":hunter2@", "hunter2@", "http://ada:hunter2@", "https://hunter2@"])
async def test_credentials_in_an_address_are_refused_and_not_shown(command: str, secret: str) -> None:
    result = CliRunner().invoke(app, [*COMMANDS[command], f"{secret}127.0.0.1:9090"])
    assert (result.exit_code, "hunter2" in result.output) == (2, False)
    assert "no user and no password" in result.output


@pytest.mark.parametrize(
    "address", ["[::1:9090", "http://[:9090", "h:99999", "h:x", "h", "a\x1b[2J:1", "ftp://h:1", "h:1?a"]
)
def test_what_is_no_address_is_named(address: str) -> None:
    result = CliRunner().invoke(app, ["top", "--once", address])
    assert result.exit_code == 2
    assert "not an address of an admin listener" in result.output
    assert "\x1b[2J" not in result.output


async def test_neither_a_proxy_nor_a_redirect_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    server = AdminServer(NoMetrics(), lambda: {"redis": True}, "127.0.0.1:0", policy=lambda: {"digest": "abcdef123456"})
    server.start()

    async def redirect(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:{server.port}/policy\r\n\r\n".encode())
        writer.close()

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert READ["policy status"] in await run("policy status", f"127.0.0.1:{server.port}")
    async with stream_server(redirect) as port:
        assert READ["policy status"] not in await run("policy status", f"127.0.0.1:{port}")
    await server.stop()


def test_an_address_that_is_given_twice_counts_once() -> None:
    result = CliRunner().invoke(app, ["top", "--once", "--interval", "0.1", "--json", "127.0.0.1:1", "127.0.0.1:1"])
    assert [each["address"] for each in json.loads(result.output)["processes"]] == ["127.0.0.1:1"]
