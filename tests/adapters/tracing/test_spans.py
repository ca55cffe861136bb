"""The spans of checks and requests, as they are exported: which there are, when, and what they say."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.builders import KEY, request, take
from support.fakes.checker_dependencies import CheckerUnderTest
from support.observability.otlp_receiver import ReceivedSpan, spans_of

from authz.adapters.prometheus.checks import Metrics, registry
from authz.adapters.tracing.checks import CheckSpans
from authz.adapters.tracing.requests import RequestSpans
from authz.core.check import Allow, RequestAttributes
from authz.core.errors import StoreUnavailable
from authz.core.streams import AcquireOutcome, Acquisition
from authz.core.traces.context import Traced, trace_context
from authz.core.traces.steps import SampledCheck
from authz.edge.h2.call import Call, sampled
from authz.service.ports import Taken

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
STREAM = "/v1/servers/s1/logs/stream"


def call(value: str, *, huffman: bool = True) -> Call:
    text = value.encode()
    code = HUFFMAN.encode(text)
    trace = bytes([0x80 | len(code)]) + code if huffman else bytes([len(text)]) + text
    return Call(None, trace=trace, is_sampled=sampled(trace))


def asked(flags: str = "01", path: str = "/v1/servers/s1", key: str | None = KEY) -> RequestAttributes:
    attributes = request("GET", path, *([key] if key else []))
    return replace(attributes, x_request_id=b"req-1", call=call(f"00-{TRACE}-{PARENT}-{flags}"))


@dataclass
class Memory:
    """Tracers whose spans stay here, in the order of their export."""

    found: list[ReceivedSpan] = field(default_factory=list)
    traced: list[tuple[float, Traced]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.checks = CheckSpans("authz", self.send, self.masked, lambda *one: self.traced.append(one))
        self.requests = RequestSpans("authz-portal", self.send, self.masked)

    def send(self, request: bytes) -> bool:
        self.found += spans_of(ExportTraceServiceRequest.FromString(request))
        return True

    def masked(self, text: str) -> str:
        return text.replace(KEY, "[api key]")

    def exported(self) -> list[ReceivedSpan]:
        """Return all spans; there are no more after this."""
        self.checks.close(5)
        self.requests.close(5)
        return self.found

    def spans(self) -> dict[str, ReceivedSpan]:
        return {span.name: span for span in self.exported()}


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    yield made
    made.exported()


@pytest.mark.parametrize("huffman", [True, False])
def test_the_flag_of_a_context_is_read_without_decoding_it(*, huffman: bool) -> None:
    for number in range(512):
        head = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}"
        flags = f"{number % 256:02x}"
        found = call(f"{head}-{flags}", huffman=huffman)
        assert found.traceparent == f"{head}-{flags}"
        assert found.is_sampled is bool(number & 1)
    for damaged in ("1", "é1", "-1", "1-", "~~"):
        assert not call(damaged, huffman=False).is_sampled
    assert not Call(None).is_sampled


async def test_a_sampled_check_is_a_span_with_its_store_as_a_child(memory: Memory) -> None:
    stack = CheckerUnderTest(take("servers:read"), on_sampled=memory.checks.decided)
    before_ns = time.time_ns()
    assert isinstance(await stack.decide(asked()), Allow)
    spans = memory.spans()
    check, redis = spans["authz.check"], spans["redis"]
    assert (check.service, check.trace_id, check.parent_id) == ("authz", TRACE, PARENT)
    assert (redis.trace_id, redis.parent_id) == (TRACE, check.span_id)
    assert before_ns - 1_000_000 <= check.start_ns <= redis.start_ns <= redis.end_ns <= check.end_ns
    assert check.attributes == {
        "authz.decision": "allow",
        "authz.request_id": "req-1",
        "authz.account_id": "acct_1",
        "authz.key_id": "key_1",
        "http.route": "/v1/servers/{id}",
        "http.request.method": "GET",
    }
    ((latency_s, traced),) = memory.traced
    assert (latency_s > 0, trace_context(traced.traceparent)) == (True, (TRACE, PARENT, True))


async def test_a_load_and_a_separate_lease_are_children_too(memory: Memory) -> None:
    stack = CheckerUnderTest(None, take("servers:read"), on_sampled=memory.checks.decided)
    assert isinstance(await stack.decide(asked(path=STREAM)), Allow)
    assert [span.name for span in memory.exported()] == ["redis", "postgres", "redis", "lease", "authz.check"]
    assert memory.spans()["postgres"].attributes == {"db.system.name": "postgresql"}
    await stack.checker.close()


async def test_a_lease_that_came_with_the_token_has_its_span(memory: Memory) -> None:
    acquired = Acquisition(AcquireOutcome.GRANTED, 1, 5, 1)
    stack = CheckerUnderTest(replace(take("servers:read"), acquired=acquired), on_sampled=memory.checks.decided)
    assert isinstance(await stack.decide(asked(path=STREAM)), Allow)
    spans = memory.spans()
    assert spans["lease"].start_ns == spans["redis"].start_ns


async def test_a_refusal_names_its_reason_and_only_a_failure_is_an_error(memory: Memory) -> None:
    failure = StoreUnavailable("redis", "not connected")
    stack = CheckerUnderTest(failure, on_sampled=memory.checks.decided)
    await stack.decide(asked(key=None))
    await stack.decide(asked())
    refused, _, failed = memory.exported()
    assert (refused.attributes["authz.reason"], refused.is_error) == ("key_missing", False)
    assert (failed.attributes["authz.reason"], failed.is_error) == ("store_unavailable", True)


async def test_what_is_not_sampled_has_no_span_and_leaves_nothing(memory: Memory) -> None:
    stack = CheckerUnderTest(*[take("servers:read")] * 3, on_sampled=memory.checks.decided)
    untraced = replace(asked(), call=None)
    await stack.decide_all(asked("00"), untraced, asked("02"))
    broken = replace(asked(), call=call(f"00-{'0' * 32}-{PARENT}-01"))
    memory.checks.decided([SampledCheck(broken, Allow(stack.checker.policy.routes[0]), [])], 0.001)
    assert memory.spans() == {}


async def test_a_batch_traces_its_sampled_checks_only_and_each_once(memory: Memory) -> None:
    stack = CheckerUnderTest(*[take("servers:read")] * 4, on_sampled=memory.checks.decided)
    await stack.decide_all(asked("00"), asked("01"), asked("00"), asked("01"))
    names = sorted(span.name for span in memory.exported())
    assert names == ["authz.check", "authz.check", "redis", "redis"]


async def test_a_check_that_needs_no_store_has_no_step_beside_those_that_do(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the projection fails at once, so before the others are reported."""
    stack = CheckerUnderTest(on_sampled=memory.checks.decided)

    def fail_at_once(_lookups: object, _default: object, taken: Taken, **_: object) -> None:
        taken([0], [StoreUnavailable("redis", "not connected")])

    monkeypatch.setattr(stack.checker, "_take", fail_at_once)
    await stack.decide_all(asked(), asked(key=None))
    spans = memory.exported()
    assert [span.name for span in spans] == ["redis", "authz.check", "authz.check"]
    assert [span.attributes["authz.reason"] for span in spans[1:]] == ["store_unavailable", "key_missing"]


@pytest.mark.parametrize("order", [(5, 1, 3), (3, 5, 1), (1, 3, 5)])
async def test_sampled_checks_are_found_in_any_order_of_calls(memory: Memory, order: tuple[int, ...]) -> None:
    stack = CheckerUnderTest(*[take("servers:read")] * 3, on_sampled=memory.checks.decided)
    requests = [(number, asked(f"0{int(number != 3)}")) for number in order]
    stack.checker.check(requests, lambda _: None, [1, 5, 7])
    await asyncio.sleep(0.01)  # the reply of the projection comes in another turn
    assert [span.name for span in memory.exported()] == ["redis", "authz.check"] * 2


async def test_a_key_in_the_id_of_a_request_is_masked(memory: Memory) -> None:
    stack = CheckerUnderTest(take("servers:read"), on_sampled=memory.checks.decided)
    await stack.decide(replace(asked(), x_request_id=KEY.encode()))
    assert memory.spans()["authz.check"].attributes["authz.request_id"] == "[api key]"


@pytest.mark.parametrize(("flags", "count"), [("01", 1), ("00", 0)])
def test_a_request_of_the_portal_is_a_span(memory: Memory, flags: str, count: int) -> None:
    memory.requests.served(f"00-{TRACE}-{PARENT}-{flags}", "req-1", "GET", "/dashboard/login", 503, 0.01)
    memory.requests.served("nonsense", "req-1", "GET", "/dashboard/login", 200, 0.01)
    found = memory.exported()
    assert len(found) == count
    for span in found:
        assert (span.service, span.name, span.is_error) == ("authz-portal", "GET /dashboard/login", True)


def test_the_latest_trace_of_a_bucket_is_its_exemplar_in_openmetrics() -> None:
    from prometheus_client.openmetrics.exposition import generate_latest  # noqa: PLC0415 -- not that of the text format

    metrics = Metrics(lambda: {"redis": True, "postgres": True})
    metrics.decided([], 0.003)
    metrics.traced(0.003, call(f"00-{TRACE}-{PARENT}-01"))
    metrics.traced(0.3, call(f"00-{'0' * 32}-{PARENT}-01"))
    text = generate_latest(registry(metrics).snapshot()).decode()  # type: ignore[no-untyped-call]
    (line,) = [line for line in text.splitlines() if "trace_id=" in line]
    assert f'# {{trace_id="{TRACE}"}}' in line
    assert line.startswith('authz_check_duration_seconds_bucket{le="0.005"}')
