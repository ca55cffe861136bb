"""Responses that Envoy itself writes have the format of the API; CORS and many headers do not break a response."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
import yaml
from support.clients.raw_h2 import send_h2
from support.clients.raw_http import Answer, send, send_settled
from support.servers.echo_backend import EchoBackend, echo_backend
from support.servers.envoys import ext_authz, manager, running_envoy, shipped_config
from support.servers.stack import Keys

from authz.adapters.policy_file.loader import load_policy
from authz.demo.servers import free_port, shipped
from authz.demo.stack import Stack
from authz.edge.check.local_replies import local_reply_config

STREAM = "/v1/servers/s1/logs/stream"
PAGE = ("origin", "https://app.example")
PROBLEMS = """
version: 2
api: {name: things, domain: things.example}
errors: problem
keys: {header: x-api-key, prefix: thg_, active_max: 25}
limit: {capacity: 10, refill_per_s: 1}
scopes: {"things:read": {description: Things}}
routes:
  - {scope: "things:read", match: [GET /v1/things]}
  - {scope: "things:read", errors: text, match: ["GET /v1/things/{id}.json"]}
  - {scope: "things:read", errors: json, match: ["GET /v1/old/**"]}
"""


@pytest.fixture(scope="module")
def backend() -> Iterator[tuple[EchoBackend, int]]:
    with echo_backend() as made:
        yield made


@pytest.fixture(scope="module")
def edge(stack: Stack, backend: tuple[EchoBackend, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = shipped_config(stack.check_ports, backend[1])
    with running_envoy(tmp_path_factory.mktemp("envoy"), config) as url:
        yield url


def assert_api_error(answer: Answer, status: int, code: int, message: str) -> None:
    assert answer.status == status
    document = answer.document
    assert (document["code"], document["message"]) == (code, message)
    (info,) = document["details"]
    assert info["domain"] == "api.truetick.example"
    assert info["reason"] == message.upper().replace(" ", "_")
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("retry-after") == ("1" if status == 503 else None)


def raw(url: str, text: bytes) -> bytes:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as peer:
        peer.sendall(text)
        received = b""
        while part := peer.recv(65_536):
            received += part
    return received


def test_the_shipped_block_is_the_policys() -> None:
    lines = local_reply_config(load_policy(shipped("policies/truetick.yaml"))).splitlines()
    assert "\n".join(" " * 10 + line for line in lines) + "\n" in shipped("envoy.yaml").read_text()


def test_malformed_requests_are_refused_in_the_apis_format(edge: str, keys: Keys) -> None:
    key = ("x-api-key", keys.all_scopes)
    for target in ("/v1%2Fservers", "/v1/servers/%5c", "/v1/%00"):
        assert_api_error(send(edge, "GET", target, key), 400, 3, "bad request")
    assert_api_error(send(edge, "GET", "/v1/servers", ("x_a", "1")), 400, 3, "bad request")
    long = send(edge, "GET", "/v1/servers", ("x-long", "a" * 70_000))
    assert_api_error(long, 431, 3, "request headers too large")
    many = send(edge, "GET", "/v1/servers", *[(f"x-{number}", "1") for number in range(120)])
    assert_api_error(many, 431, 3, "request headers too large")
    assert_api_error(send(edge, "POST", "/v1/servers", key, body=b"{" * 70_000), 413, 3, "request body too large")
    old = raw(edge, b"GET /v1/servers HTTP/1.0\r\nhost: x\r\n\r\n")
    assert old.startswith(b"HTTP/1.1 426 ")
    assert json.loads(old.partition(b"\r\n\r\n")[2])["message"] == "http version not supported"
    nowhere = raw(edge, b"CONNECT api:443 HTTP/1.1\r\nhost: api:443\r\nconnection: close\r\n\r\n")
    assert json.loads(nowhere.partition(b"\r\n\r\n")[2])["code"] == 5


def test_refusals_of_authz_stay_what_they_are(edge: str, keys: Keys) -> None:
    answer = send(edge, "GET", "/v1/servers")
    assert answer.document["message"] == "invalid or missing api key"
    assert answer.header("www-authenticate") == 'ApiKey realm="truetick"'
    assert send(edge, "GET", STREAM).body == b"unauthorized\n"
    assert_reason = send_settled(edge, "GET", "/v1/servers/s1/file", ("x-api-key", keys.reader)).document
    assert assert_reason["message"] == "missing scope files:read"


def assert_unavailable(url: str, key: tuple[str, str]) -> None:
    assert_api_error(send(url, "GET", "/v1/servers", key), 503, 14, "unavailable")
    text = send(url, "GET", f"{STREAM}?tail=1", key)
    assert (text.status, text.body, text.header("retry-after")) == (503, b"unavailable\n", "1")
    response = send_h2(url, "POST", "/v1/servers/s1:start", key, ("content-type", "application/grpc"))
    fields = response.headers | response.trailers
    assert (response.status, fields["grpc-status"]) == (200, "14")
    assert "{" not in fields.get("grpc-message", "")
    foo = send(url, "GET", "/v1/servers", key, ("content-type", "application/grpcfoo"))
    assert_api_error(foo, 503, 14, "unavailable")


def test_an_absent_sidecar_is_a_503_in_the_apis_format(keys: Keys, tmp_path: Path) -> None:
    with running_envoy(tmp_path, shipped_config([free_port()], free_port())) as url:
        assert_unavailable(url, ("x-api-key", keys.all_scopes))


def test_a_frozen_sidecar_is_a_503_in_the_apis_format(stack: Stack, edge: str, keys: Keys) -> None:
    key = ("x-api-key", keys.all_scopes)
    assert send_settled(edge, "GET", "/v1/servers", key).status == 200
    stack.sidecars[0].signal(SIGSTOP)
    try:
        assert_unavailable(edge, key)
    finally:
        stack.sidecars[0].signal(SIGCONT)
    assert send_settled(edge, "GET", "/v1/servers", key).status == 200


def test_an_absent_backend_is_a_503_in_the_apis_format(stack: Stack, keys: Keys, tmp_path: Path) -> None:
    config = shipped_config(stack.check_ports, free_port())
    with running_envoy(tmp_path, config) as url:
        while send(url, "GET", "/v1/servers", ("x-api-key", "none")).status != 401:
            pass
        assert_unavailable(url, ("x-api-key", keys.all_scopes))


def test_a_refused_mutation_is_a_500_in_the_apis_format(stack: Stack, keys: Keys, tmp_path: Path) -> None:
    def forbid(config: Any) -> None:  # noqa: ANN401 -- YAML
        rules = ext_authz(manager(config))["decoder_header_mutation_rules"]
        rules["allow_expression"] = {"regex": "nothing"}

    with running_envoy(tmp_path, shipped_config(stack.check_ports, free_port()), forbid) as url:
        answer = send_settled(url, "GET", "/v1/servers", ("x-api-key", keys.reader))
        assert_api_error(answer, 500, 13, "internal error")


@pytest.mark.parametrize(
    ("content_type", "is_grpc"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("application/grpc;charset=utf-8", False),
        ("application/grpcfoo", False),
        ("application/grpc-web", False),
        ("application/grpc, text/plain", False),
        ("Application/GRPC", None),
        ("application/grpc ", None),
    ],
)
def test_a_caller_is_a_grpc_caller_to_authz_as_to_envoy(edge: str, content_type: str, is_grpc: bool | None) -> None:  # noqa: FBT001
    response = send_h2(edge, "POST", "/v1/servers/s1:start", ("content-type", content_type), body=b"{}")
    # Envoy turns a refusal into 200 with grpc-status; authz sends JSON to all others.
    seen_by_envoy = response.status == 200
    assert is_grpc in {None, seen_by_envoy}
    if seen_by_envoy:
        assert response.headers["grpc-status"] == "16"
        assert response.headers["grpc-message"] == "invalid or missing api key"
    else:
        assert (response.status, response.document["code"]) == (401, 16)


def vary(answer: Answer) -> list[str]:
    names = [value for name, value in answer.headers if name == "vary"]
    return [each.strip().lower() for value in names for each in value.split(",")]


def test_every_response_varies_by_the_page_where_cors_decides(edge: str, keys: Keys) -> None:
    key = ("x-api-key", keys.reader)
    for headers in ([PAGE], []):
        assert "origin" in vary(send_settled(edge, "GET", "/v1/servers", key, *headers))
        assert "origin" in vary(send(edge, "GET", "/v1/servers", *headers))
        assert "origin" in vary(send(edge, "GET", "/dashboard/keys", *headers))
    for target in ("/v1/servers", "/v1/public/login", "/v1/whoami", STREAM, "/v1/nowhere"):
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            preflight = send(edge, "OPTIONS", target, PAGE, ("access-control-request-method", method))
            assert preflight.status == 200
            assert "origin" in vary(preflight)
            assert preflight.header("access-control-allow-origin") == PAGE[1]
            assert method in (preflight.header("access-control-allow-methods") or "")
            assert not preflight.reached_backend


@pytest.mark.parametrize("count", [80, 91, 92, 93, 120])
def test_a_response_with_many_headers_arrives_whole(
    edge: str, backend: tuple[EchoBackend, int], keys: Keys, count: int
) -> None:
    backend[0].extra_headers = [(f"x-many-{number}", "1") for number in range(count)]
    try:
        response = send_h2(edge, "GET", "/v1/servers", ("x-api-key", keys.reader))
    finally:
        backend[0].extra_headers = []
    assert response.status == 200
    assert sum(name.startswith("x-many-") for name in response.headers) == count
    assert "ratelimit" in response.headers


def test_each_row_has_its_own_format_and_other_paths_that_of_the_policy(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(PROBLEMS)
    replies = yaml.safe_load(local_reply_config(load_policy(policy)))["local_reply_config"]

    def use_it(config: Any) -> None:  # noqa: ANN401 -- YAML
        manager(config)["local_reply_config"] = replies

    with running_envoy(tmp_path, shipped_config([free_port()], free_port()), use_it) as url:
        for target in ("/v1/things", "/v1/nowhere", "/v1/things/a/b.json"):
            answer = send(url, "GET", target)
            assert answer.header("content-type") == "application/problem+json"
            problem = {"title": "unavailable", "status": 503, "detail": "unavailable", "domain": "things.example"}
            assert answer.document == problem
        for target in ("/v1/things/a.json", "/v1/things/a.json?x=1"):
            answer = send(url, "GET", target)
            assert (answer.status, answer.body) == (503, b"unavailable\n")
            assert answer.header("content-type") == "text/plain; charset=utf-8"
        assert send(url, "GET", "/v1/old/deep/er").document["code"] == 14
