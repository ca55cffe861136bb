"""Every kind of response through Envoy: the tour itself, exact error bodies, and native gRPC callers."""

import json
import re
import time

import grpc
import httpx
import pytest
from rich.console import Console
from support.clients.raw_http import send, send_settled
from support.servers.stack import Keys

from authz.core.limits import Limit
from authz.demo.stack import Stack
from authz.demo.tour import walk


@pytest.fixture
def fresh(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Return the stack with another account: the keys of other tests make the bucket of the shared one larger."""
    monkeypatch.setattr(stack, "account_id", stack.create_account("fresh"))
    return stack


def test_the_tour_finds_everything_as_expected(fresh: Stack) -> None:
    console = Console(record=True, width=160)
    assert walk(fresh, console) == 0
    assert "everything as expected" in console.export_text()


def test_a_refusal_is_written_as_grpc_gateway_writes_it(stack: Stack) -> None:
    answer = send(stack.url, "GET", "/v1/servers")
    assert answer.status == 401
    assert answer.document == {
        "code": 16,
        "message": "invalid or missing api key",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "UNAUTHORIZED",
                "domain": "api.truetick.example",
                "metadata": {},
            }
        ],
    }
    assert answer.header("content-type") == "application/json"
    assert answer.header("www-authenticate") == 'ApiKey realm="truetick"'


@pytest.mark.parametrize(
    ("target", "key", "status", "line"),
    [
        ("/v1/servers/s1/logs/stream", "", 401, b"unauthorized\n"),
        ("/v1/servers/s1/logs/stream", "billing", 403, b"forbidden\n"),
        ("/v1/servers/s1/logs/stream", "empty", 429, b"rate limit exceeded\n"),
    ],
)
def test_the_log_stream_is_refused_in_one_line_of_text(
    stack: Stack, target: str, key: str, status: int, line: bytes
) -> None:
    secrets = {
        "billing": stack.create_key("billing", "billing:read").secret,
        "empty": stack.create_key("empty", "servers:read", limit=Limit(1, 0.001)).secret,
    }
    headers = [("x-api-key", secrets[key])] if key else []
    if key == "empty":
        send_settled(stack.url, "GET", "/v1/servers", *headers)
    answer = send(stack.url, "GET", target, *headers)
    assert (answer.status, answer.body) == (status, line)
    assert (answer.header("content-type") or "").startswith("text/plain")


def test_rate_headers_count_down_and_a_429_has_retry_after(fresh: Stack) -> None:
    secret = fresh.create_key("counted", "servers:read", limit=Limit(3, 0.2)).secret
    answers = [send_settled(fresh.url, "GET", "/v1/servers", ("x-api-key", secret)) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.header("x-ratelimit-remaining") for answer in answers] == ["2", "1", "0", "0"]
    # The account's quota grows with the own limits of its keys.
    policy = answers[0].header("ratelimit-policy") or ""
    assert re.fullmatch(r'"default";q=3;w=15, "account";q=3\d{3};w=\d+', policy)
    assert answers[0].header("ratelimit") == '"default";r=2;t=5'
    assert answers[3].header("retry-after") == "5"
    assert json.loads(answers[3].body)["message"] == "rate limit exceeded"


def test_a_denied_valid_key_spends_tokens_and_a_401_spends_none(stack: Stack) -> None:
    secret = stack.create_key("probing", "servers:read", limit=Limit(4, 0.001)).secret
    for target in ("/v1/nowhere", "/v1/admin/users", "/v1/servers/s1/file"):
        send_settled(stack.url, "GET", target, ("x-api-key", secret))
    send(stack.url, "GET", "/v1/servers", ("x-api-key", secret), ("x-api-key", secret))
    answer = send(stack.url, "GET", "/v1/servers", ("x-api-key", secret))
    assert (answer.status, answer.header("x-ratelimit-remaining")) == (200, "0")


def test_an_account_in_the_body_must_be_the_callers_own(stack: Stack, keys: Keys) -> None:
    def create(account_id: str) -> int:
        body = json.dumps({"accountId": account_id}).encode()
        headers = (("x-api-key", keys.all_scopes), ("content-type", "application/json"))
        answer = send(stack.url, "POST", "/v1/servers", *headers, body=body)
        if answer.reached_backend:
            assert answer.document["body"].encode() == body
        return answer.status

    assert create(stack.account_id) == 200
    assert create("acct_other") == 403
    assert send(stack.url, "POST", "/v1/servers", ("x-api-key", keys.all_scopes), body=b"{").status == 400


@pytest.mark.parametrize(
    ("key", "method", "code", "text"),
    [
        ("", "/shop.v1.Orders/Get", grpc.StatusCode.UNAUTHENTICATED, "invalid or missing api key"),
        ("all", "/truetick.admin.v1.Keys/Delete", grpc.StatusCode.PERMISSION_DENIED, "forbidden"),
        ("empty", "/truetick.admin.v1.Keys/Delete", grpc.StatusCode.RESOURCE_EXHAUSTED, "rate limit exceeded"),
    ],
)
def test_a_native_grpc_caller_gets_its_own_status(
    stack: Stack, keys: Keys, key: str, method: str, code: grpc.StatusCode, text: str
) -> None:
    empty = stack.create_key("empty", "servers:read", limit=Limit(1, 0.001)).secret
    send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", empty))
    secret = {"": "", "all": keys.all_scopes, "empty": empty}[key]
    metadata = (("x-api-key", secret),) if secret else ()
    with grpc.insecure_channel(stack.url.removeprefix("http://")) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(method)(b"", metadata=metadata, timeout=5)
    assert (raised.value.code(), raised.value.details()) == (code, text)


def test_a_stream_is_passed_on_event_by_event(stack: Stack, keys: Keys) -> None:
    target = f"{stack.url}/v1/servers/s1/logs/stream?tail=2"
    with (
        httpx.Client(trust_env=False, timeout=5) as client,
        client.stream("GET", target, headers={"x-api-key": keys.reader}) as answer,
    ):
        received, started_s = b"", time.monotonic()
        for part in answer.iter_raw():
            received += part
            if received.count(b": ping\n\n") == 2:
                break
    assert received == b"data: [Server] line 0\n\ndata: [Server] line 1\n\n: ping\n\n: ping\n\n"
    assert time.monotonic() - started_s < 3


def test_a_preflight_is_answered_without_a_key(stack: Stack) -> None:
    answer = send(
        stack.url,
        "OPTIONS",
        "/v1/servers",
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
    )
    assert answer.status == 200
    assert "x-api-key" in (answer.header("access-control-allow-headers") or "")
    refused = send(stack.url, "GET", "/v1/servers", ("origin", "https://app.example"))
    assert "retry-after" in (refused.header("access-control-expose-headers") or "")


def envoys_line(stack: Stack, route: str) -> dict[str, object]:
    """Wait until Envoy has written the line of a request to a route."""
    while True:
        for line in stack.envoy.log.read_text().splitlines():
            if line.startswith("{") and line.endswith("}") and f'"route":"{route}"' in line:
                entry: dict[str, object] = json.loads(line)
                return entry
        time.sleep(0.05)


def test_what_was_decided_is_in_the_metrics_and_in_envoys_log(stack: Stack, keys: Keys) -> None:
    send(stack.url, "GET", "/v1/servers/s1/metrics?secret=hunter2", ("x-api-key", keys.reader))
    metrics = httpx.get(f"{stack.admin_url}/metrics", trust_env=False).text
    assert 'authz_checks_total{outcome="allow",reason="",route="/v1/servers/{id}/metrics"}' in metrics
    logged = envoys_line(stack, "/v1/servers/{id}/metrics")
    assert logged["account_id"] == stack.account_id
    assert logged["decision"] == "allow"
    logs = "".join(path.read_text(errors="replace") for path in stack.folder.glob("*.log"))
    assert keys.reader not in logs + metrics
    assert "hunter2" not in stack.envoy.log.read_text() + stack.sidecars[0].log.read_text()
