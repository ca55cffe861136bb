"""A request that its caller traces is found in the trace, and by one id in every log; others are not traced."""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from support.clients.raw_http import send, send_settled
from support.observability.otlp_receiver import OtlpReceiver, otlp_receiver
from support.servers.envoys import manager, running_envoy, shipped_config
from support.servers.stack import ROOMY

from authz.demo.stack import Stack

WAIT_S = 20
CALLER = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def stack(receiver: OtlpReceiver) -> Iterator[Stack]:
    stack = Stack(portal=True, env={"AUTHZ_OTLP_ENDPOINT": receiver.url, "AUTHZ_LOG_ALLOW_SAMPLE": "1"})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def secret(stack: Stack) -> str:
    return stack.create_key("traced", "servers:read", "console", limit=ROOMY).secret


@pytest.fixture(scope="module")
def traced(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An Envoy that traces as its client says, with its log; its own spans go nowhere."""
    folder = tmp_path_factory.mktemp("envoy")
    config = shipped_config(stack.check_ports, int(stack.backend_url.rpartition(":")[2]))
    with running_envoy(folder, config, trace) as url:
        (log,) = folder.glob("envoy-*.log")
        yield url, log


def trace(config: Any) -> None:  # noqa: ANN401 -- YAML
    settings = {
        "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
        "grpc_service": {"envoy_grpc": {"cluster_name": "backend-grpc"}, "timeout": "0.25s"},
        "service_name": "edge",
    }
    manager(config)["tracing"] = {"provider": {"name": "envoy.tracers.opentelemetry", "typed_config": settings}}


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def line_of(path: Path, request_id: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def is_written() -> bool:
        lines = (line for line in path.read_text().splitlines() if request_id in line and line.startswith("{"))
        found.extend(json.loads(line) for line in lines)
        return bool(found)

    until(is_written)
    return found[0]


def test_one_request_is_found_by_its_id_in_three_logs_and_in_the_trace(
    stack: Stack, secret: str, traced: tuple[str, Path], receiver: OtlpReceiver
) -> None:
    url, log = traced
    trace_id = secrets.token_hex(16)
    sent = (("x-api-key", secret), ("traceparent", f"00-{trace_id}-{CALLER}-01"))
    request_id = str(send_settled(url, "GET", "/v1/servers/s1", *sent).header("x-request-id"))
    envoy, decision, backend = (line_of(path, request_id) for path in (log, stack.sidecars[0].log, stack.backend.log))
    assert envoy["key_id"] == decision["key_id"] == backend["key_id"]
    assert envoy["trace_id"] == decision["trace_id"] == trace_id
    until(lambda: "authz.check" in receiver.of(trace_id))
    spans = receiver.of(trace_id)
    check = spans["authz.check"]
    assert check.attributes["authz.request_id"] == request_id
    assert check.attributes["authz.decision"] == "allow"
    assert check.attributes["authz.key_id"] == decision["key_id"]
    assert check.parent_id == decision["span_id"]  # Envoy's span of the check
    assert spans["redis"].parent_id == check.span_id
    assert check.start_ns <= spans["redis"].start_ns <= spans["redis"].end_ns <= check.end_ns
    headers = {"accept": "application/openmetrics-text"}
    metrics = httpx.get(f"{stack.admin_url}/metrics", headers=headers, trust_env=False).text
    assert re.search(rf'authz_check_duration_seconds_bucket{{[^}}]*}} \S+ # {{trace_id="{trace_id}"}}', metrics)


def test_a_key_that_is_loaded_and_a_stream_show_postgres_and_the_lease(
    stack: Stack, traced: tuple[str, Path], receiver: OtlpReceiver
) -> None:
    url, _ = traced
    secret = stack.create_key("fresh", "console", "servers:read", limit=ROOMY).secret
    forget(stack)
    trace_id = secrets.token_hex(16)
    fields = {"x-api-key": secret, "traceparent": f"00-{trace_id}-{CALLER}-01"}
    with httpx.stream("GET", f"{url}/v1/servers/s1/logs/stream", headers=fields, trust_env=False) as answer:
        assert answer.status_code == 200
        until(lambda: "authz.check" in receiver.of(trace_id))
    assert {"authz.check", "redis", "postgres", "lease"} == set(receiver.of(trace_id))


def forget(stack: Stack) -> None:
    """Remove the records of keys, so that the next check loads its key; the leases stay."""
    with redis.Redis.from_url(stack.redis.url) as client:
        for name in client.scan_iter():
            if not name.startswith(b"l:"):
                client.delete(name)


def test_what_the_caller_does_not_trace_has_no_span(
    secret: str, traced: tuple[str, Path], receiver: OtlpReceiver
) -> None:
    url, _ = traced
    ids = {flags: secrets.token_hex(16) for flags in ("00", "01")}
    for flags, trace_id in ids.items():
        sent = (("x-api-key", secret), ("traceparent", f"00-{trace_id}-{CALLER}-{flags}"))
        assert send_settled(url, "GET", "/v1/servers/s1", *sent).status == 200
    until(lambda: "authz.check" in receiver.of(ids["01"]))
    assert receiver.of(ids["00"]) == {}


def test_a_request_of_the_portal_is_traced(stack: Stack, receiver: OtlpReceiver) -> None:
    trace_id = secrets.token_hex(16)
    answer = send(stack.url, "GET", "/dashboard/login", ("traceparent", f"00-{trace_id}-{CALLER}-01"))
    assert answer.status == 200
    until(lambda: bool(receiver.of(trace_id, "authz-portal")))
    (span,) = receiver.of(trace_id, "authz-portal").values()
    assert (span.name, span.parent_id) == ("GET /dashboard/login", CALLER)
    assert span.attributes["authz.request_id"] == answer.header("x-request-id")
    assert span.attributes["http.response.status_code"] == "200"


def test_no_span_holds_a_key(secret: str, traced: tuple[str, Path], receiver: OtlpReceiver) -> None:
    url, _ = traced
    trace_id = secrets.token_hex(16)
    sent = (("x-request-id", secret), ("x-api-key", secret), ("traceparent", f"00-{trace_id}-{CALLER}-01"))
    send(url, "GET", f"/v1/servers/{secret}?key={secret}", *sent)
    until(lambda: "authz.check" in receiver.of(trace_id))
    assert secret not in repr(receiver.spans)
