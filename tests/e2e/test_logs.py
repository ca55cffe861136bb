"""One request has one id in every log, and no log holds a key, wherever a caller put it."""

import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.clients.raw_h2 import send_h2
from support.clients.raw_http import send, send_settled
from support.servers.envoys import manager, running_envoy, shipped_config
from support.servers.stack import ROOMY

from authz.demo.stack import Stack

WAIT_S = 10
Line = dict[str, Any]


@pytest.fixture(scope="module", params=[False, True], ids=["check-listener", "grpc-server"])
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    stack = Stack(on_grpc=request.param, env={"AUTHZ_LOG_ALLOW_SAMPLE": "1", "AUTHZ_LOG_DENIALS_PER_S": "10000"})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def secret(stack: Stack) -> str:
    return stack.create_key("logged", "servers:read", limit=ROOMY).secret


def lines(path: Path) -> list[Line]:
    found = [line for line in path.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    return [json.loads(line) for line in found]


def line_of(path: Path, request_id: str) -> Line:
    """Return the only line of a log about a request, when it is written."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        found = [line for line in lines(path) if line.get("request_id") == request_id]
        if found:
            (line,) = found
            return line
        time.sleep(0.05)
    raise AssertionError(f"{path.name} has no line about the request:\n{path.read_text()[-2000:]}")


def logs(stack: Stack) -> tuple[Path, Path, Path]:
    return stack.envoy.log, stack.sidecars[0].log, stack.backend.log


def test_an_allowed_request_is_found_in_every_log_by_the_id_that_the_client_sees(stack: Stack, secret: str) -> None:
    answer = send_settled(stack.url, "GET", "/v1/servers/s1?page=2", ("x-api-key", secret))
    request_id = str(answer.header("x-request-id"))
    uuid.UUID(request_id)
    envoy, decision, backend = (line_of(log, request_id) for log in logs(stack))
    assert (decision["event"], decision["decision"]) == ("decision", "allow")
    assert envoy["key_id"] == decision["key_id"] == backend["key_id"]
    assert (envoy["method"], envoy["path"], envoy["status"]) == ("GET", "/v1/servers/s1", 200)
    assert decision["stream_id"].isdigit()


def test_a_refused_request_is_found_too_with_the_duration_of_its_check(stack: Stack, secret: str) -> None:
    sent = "11111111-2222-4333-8444-555555555555"
    for method, name, value in (("DELETE", "x-other", "1"), ("GET", "x-request-id", sent)):
        answer = send(stack.url, method, "/v1/servers/s1:start", ("x-api-key", secret), (name, value))
        request_id = str(answer.header("x-request-id"))
        envoy, decision = (line_of(log, request_id) for log in logs(stack)[:2])
        assert decision["reason"] == envoy["reason"] == "method_unknown"
        assert 0 < float(envoy["authz_ms"]) < 60_000
        assert (answer.status, envoy["status"]) == (405, 405)


def test_the_trace_of_a_check_is_in_its_decision_line(stack: Stack, secret: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    fields = (("x-api-key", secret), ("traceparent", f"00-{trace}-00f067aa0ba902b7-01"))
    answer = send(stack.url, "GET", "/v1/servers/s1", *fields)
    decision = line_of(stack.sidecars[0].log, str(answer.header("x-request-id")))
    # Without tracing in Envoy, the header is the client's own claim, which nothing checks.
    assert "trace_id" not in decision


def trace(config: Any) -> None:  # noqa: ANN401 -- YAML
    settings = {
        "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
        "grpc_service": {"envoy_grpc": {"cluster_name": "backend-grpc"}, "timeout": "0.25s"},  # no span arrives there
        "service_name": "edge",
    }
    manager(config)["tracing"] = {"provider": {"name": "envoy.tracers.opentelemetry", "typed_config": settings}}


def test_with_tracing_the_decision_line_has_the_trace_of_envoys_log(stack: Stack, secret: str, tmp_path: Path) -> None:
    listens_on_grpc = stack.envoy.log.with_name("envoy.yaml").read_text().count(str(stack.grpc_ports[0])) > 0
    ports = stack.grpc_ports if listens_on_grpc else stack.check_ports
    config = shipped_config(ports, int(stack.backend_url.rpartition(":")[2]))
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    with running_envoy(tmp_path, config, trace) as url:
        sent = (("x-api-key", secret), ("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01"))
        request_id = str(send_settled(url, "GET", "/v1/servers/s1", *sent).header("x-request-id"))
        decision = line_of(stack.sidecars[0].log, request_id)
        (log,) = tmp_path.glob("envoy-*.log")
        envoy = line_of(log, request_id)
    assert envoy["trace_id"] == decision["trace_id"] == trace_id
    assert len(decision["span_id"]) == 16
    assert decision["span_id"] != "00f067aa0ba902b7"  # Envoy's span of the check, not the caller's


CALLERS_HEADERS = (
    "x-request-id", "traceparent", "tracestate", "baggage", "referer", "user-agent", "x-forwarded-for", "forwarded",
    "cookie", "authorization", "x-envoy-original-path", "x-client-trace-id", "accept",
)  # fmt: skip


def test_no_log_holds_a_key_that_a_caller_put_elsewhere(stack: Stack, secret: str) -> None:
    encoded = "".join(f"%{ord(letter):02x}" for letter in secret)
    ids = []
    for spelling in (secret, encoded, secret.replace("_", "%5f"), quote(secret) + ":start"):
        for target in (f"/v1/servers/{spelling}", f"/v1/servers?key={spelling}", f"/{spelling}/x", f"/v1/{spelling}?a"):
            ids.append(send(stack.url, "GET", target, ("x-api-key", secret)).header("x-request-id"))  # noqa: PERF401
    send_h2(stack.url, secret, "/v1/servers")
    for name in CALLERS_HEADERS:
        for spelling in (secret, secret.lower(), encoded, f"{secret[4:]}, {secret}", f"sk_live_{secret[4:]}"):
            send(stack.url, "GET", "/v1/admin/x", (name, spelling), ("x-api-key", secret))
    for request_id in ids:
        line_of(stack.envoy.log, str(request_id))
    time.sleep(0.5)
    for log in logs(stack):
        text = log.read_text().lower()
        for part in (secret[4:30], secret[-30:], encoded[30:120], encoded[-90:]):
            assert part.lower() not in text, log.name


def test_the_level_of_the_log_changes_while_the_process_runs(stack: Stack, secret: str) -> None:
    stack.sidecars[0].stop()
    quiet = stack.sidecars[0]
    assert quiet._env is not None  # noqa: SLF001 -- no test changes it but this
    quiet._env = {**quiet._env, "AUTHZ_LOG_LEVEL": "warning"}  # noqa: SLF001
    stack.start_sidecar(0)
    send_settled(stack.url, "GET", "/v1/servers/s1", ("x-api-key", secret))

    def decisions() -> int:
        send(stack.url, "GET", "/v1/admin/x", ("x-api-key", secret))
        time.sleep(0.3)
        return sum(line.get("event") == "decision" for line in lines(quiet.log))

    def switch(to: str) -> None:
        quiet.signal(signal.SIGUSR1)
        until(lambda: [line for line in lines(quiet.log) if line.get("to") == to])

    before = decisions()
    assert decisions() == before
    switch("debug")
    assert decisions() == before + 1
    switch("warning")
    assert decisions() == before + 1


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
