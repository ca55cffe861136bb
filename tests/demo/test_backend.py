"""The demo's backend: exact stream framing, and an echo that hides nothing."""

import sys
from base64 import b64decode
from collections.abc import Iterator

import httpx
import pytest
from support.clients.raw_http import send

from authz.demo.servers import Server, accepts, free_port


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "authz.demo.backend", "--port", str(port), "--ping-s", "0.05"]
    server = Server("backend", command, tmp_path_factory.mktemp("backend") / "log")
    server.start(lambda: accepts(port))
    yield f"http://127.0.0.1:{port}"
    server.stop()


def test_the_echo_tells_exactly_what_arrived(url: str) -> None:
    answer = send(url, "POST", "/v1/a%3Ab/%2e?x=%2F", ("X-Thing", "a"), ("x-thing", "b"), body=b"hello")
    assert answer.document["target"] == "/v1/a%3Ab/%2e?x=%2F"
    assert answer.backend_saw("x-thing") == ["a", "b"]
    assert (answer.document["method"], answer.document["body"]) == ("POST", "hello")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/servers", "servers"),
        ("/v1/servers/s1", "id"),
        ("/v1/accounts/a/wallet", "balanceMicros"),
        ("/v1/whoami", "accountId"),
    ],
)
def test_sample_routes_answer_json(url: str, path: str, expected: str) -> None:
    with httpx.Client(trust_env=False) as client:
        assert expected in client.get(url + path).json()
        assert client.post(f"{url}/v1/servers/s1:start").json() == {"ok": True, "id": "s1"}


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("GET", "/v1/servers", {"servers"}),
        ("GET", "/v1/servers/s1", {"id", "name", "hostname", "state", "version", "region"}),
        ("GET", "/v1/servers/s1/tick-history", {"minutes"}),
        ("GET", "/v1/accounts/acct_1/wallet", {"accountId", "balanceMicros", "currency"}),
        ("POST", "/v1/servers", {"id"}),
        ("POST", "/v1/templates/survival:create", {"id"}),
        ("POST", "/v1/servers/s1/backups", {"id"}),
        ("POST", "/v1/servers/s1/backups/b1:set-kept", {"id"}),
        ("POST", "/v1/servers/s1:enable-sftp", {"host", "port", "username", "password"}),
        ("POST", "/v1/accounts/acct_1/checkout-link", {"checkoutUrl"}),
    ],
)
def test_a_response_has_the_fields_that_clients_show(url: str, method: str, path: str, fields: set[str]) -> None:
    with httpx.Client(trust_env=False) as client:
        assert fields <= client.request(method, url + path, json={}).json().keys()


def test_files_console_and_logs_have_content(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client:
        entries = client.get("/v1/servers/s1/files").json()["entries"]
        assert all({"name", "size", "kind", "isDir"} <= entry.keys() for entry in entries)
        content = client.get("/v1/servers/s1/file", params={"path": "server.properties"}).json()["content"]
        assert b64decode(content) == b"motd=hello\n"
        ran = client.post("/v1/servers/s1:command", json={"command": "say hi"}).json()
        assert ran["output"] == "ran: say hi"
        assert len(client.get("/v1/servers/s1/logs", params={"tail": 7}).json()["lines"]) == 7
        (version,) = client.get("/v1/servers/s1/mods/versions").json()["versions"]
        assert version["id"]
        assert client.post("/v1/servers/s1:command", content=b"[" * 40_000).json()["output"] == "ran: "


@pytest.mark.parametrize(
    ("tail", "count"),
    [("?tail=3", 3), ("?tail=0", 0), ("?tail=-5", 0), ("?tail=5000", 1000), ("?tail=x", 100), ("", 100)],
)
def test_a_stream_begins_with_the_backlog_and_then_pings(url: str, tail: str, count: int) -> None:
    received = b""
    with (
        httpx.Client(trust_env=False) as client,
        client.stream("GET", f"{url}/v1/servers/s1/logs/stream{tail}") as answer,
    ):
        for part in answer.iter_raw():
            received += part
            if b": ping" in received:
                break
    events = received.split(b"\n\n")
    assert events[:count] == [b"data: [Server] line %d" % number for number in range(count)]
    assert events[count] == b": ping"
