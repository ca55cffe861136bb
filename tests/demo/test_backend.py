"""The demo's backend: exact stream framing, and an echo that hides nothing."""

import sys
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
        ("/v1/accounts/a/wallet", "balance_cents"),
        ("/v1/whoami", "accountId"),
    ],
)
def test_sample_routes_answer_json(url: str, path: str, expected: str) -> None:
    with httpx.Client(trust_env=False) as client:
        assert expected in client.get(url + path).json()
        assert client.post(f"{url}/v1/servers/s1:start").json() == {"ok": True}


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
