"""The spans of checks and requests, in the SDK's own exporter: which there are, when, and what they say."""

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from support.builders import KEY, request, take
from support.fakes.checker_dependencies import CheckerUnderTest

from authz.adapters.prometheus.checks import Metrics, registry
from authz.adapters.tracing import CheckSpans, RequestSpans, tracer_provider
from authz.core.check import Allow, RequestAttributes
from authz.core.errors import StoreUnavailable
from authz.core.streams import AcquireOutcome, Acquisition
from authz.edge.h2.call import Call
from authz.service.ports import Decided

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
STREAM = "/v1/servers/s1/logs/stream"


def call(value: str, *, huffman: bool = True) -> Call:
    text = value.encode()
    code = HUFFMAN.encode(text)
    return Call(None, trace=bytes([0x80 | len(code)]) + code if huffman else bytes([len(text)]) + text)


def asked(flags: str = "01", path: str = "/v1/servers/s1", key: str | None = KEY) -> RequestAttributes:
    attributes = request("GET", path, *([key] if key else []))
    return replace(attributes, x_request_id=b"req-1", call=call(f"00-{TRACE}-{PARENT}-{flags}"))


@dataclass
class Memory:
    """A provider that exports to memory, and a tracer of checks on it."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    traced: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.provider: TracerProvider = tracer_provider("http://127.0.0.1:1", "authz", self.exporter)
        self.checks = CheckSpans(self.provider, self.masked, lambda *one: self.traced.append(one))

    def masked(self, text: str) -> str:
        return text.replace(KEY, "[api key]")

    def spans(self) -> dict[str, ReadableSpan]:
        self.provider.force_flush()
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def trace(self, stack: CheckerUnderTest) -> CheckerUnderTest:
        """Report the decisions of a checker, which measures its steps already."""
        record = stack.observed.decided

        def decided(these: Sequence[Decided], latency_s: float) -> None:
            record(these, latency_s)
            self.checks.decided(these, latency_s)

        stack.observed.decided = decided  # type: ignore[method-assign, assignment]
        return stack


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    yield made
    made.provider.shutdown()


@pytest.mark.parametrize("huffman", [True, False])
def test_the_flag_of_a_context_is_read_without_decoding_it(*, huffman: bool) -> None:
    for number in range(512):
        head = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}"
        flags = f"{number % 256:02x}"
        found = call(f"{head}-{flags}", huffman=huffman)
        assert found.traceparent == f"{head}-{flags}"
        assert found.is_sampled is bool(number & 1)
    assert not Call(None).is_sampled


async def test_a_sampled_check_is_a_span_with_its_store_as_a_child(memory: Memory) -> None:
    stack = memory.trace(CheckerUnderTest(take("servers:read"), tracer=memory.checks))
    before_ns = time.time_ns()
    assert isinstance(await stack.decide(asked()), Allow)
    spans = memory.spans()
    check, redis = spans["authz.check"], spans["redis"]
    assert check.parent is not None
    assert redis.parent is not None
    assert (f"{check.context.trace_id:032x}", f"{check.parent.span_id:016x}") == (TRACE, PARENT)
    assert redis.parent.span_id == check.context.span_id
    assert before_ns - 1_000_000 <= check.start_time <= redis.start_time <= redis.end_time <= check.end_time  # type: ignore[operator]
    assert dict(check.attributes or {}) == {
        "authz.decision": "allow",
        "authz.request_id": "req-1",
        "authz.account_id": "acct_1",
        "authz.key_id": "key_1",
        "http.route": "/v1/servers/{id}",
        "http.request.method": "GET",
    }
    ((latency_s, trace_id),) = memory.traced
    assert (latency_s > 0, trace_id) == (True, TRACE)


async def test_a_load_and_a_separate_lease_are_children_too(memory: Memory) -> None:
    stack = memory.trace(CheckerUnderTest(None, take("servers:read"), tracer=memory.checks))
    assert isinstance(await stack.decide(asked(path=STREAM)), Allow)
    memory.provider.force_flush()
    names = [span.name for span in memory.exporter.get_finished_spans()]
    assert names == ["redis", "postgres", "redis", "lease", "authz.check"]
    assert memory.spans()["postgres"].attributes == {"db.system.name": "postgresql"}
    await stack.checker.close()


async def test_a_lease_that_came_with_the_token_has_its_span(memory: Memory) -> None:
    acquired = Acquisition(AcquireOutcome.GRANTED, 1, 5, 1)
    stack = memory.trace(CheckerUnderTest(replace(take("servers:read"), acquired=acquired), tracer=memory.checks))
    assert isinstance(await stack.decide(asked(path=STREAM)), Allow)
    spans = memory.spans()
    assert spans["lease"].start_time == spans["redis"].start_time


async def test_a_refusal_names_its_reason_and_only_a_failure_is_an_error(memory: Memory) -> None:
    failure = StoreUnavailable("redis", "not connected")
    stack = memory.trace(CheckerUnderTest(failure, tracer=memory.checks))
    await stack.decide(asked(key=None))
    refused = memory.spans()["authz.check"]
    assert (refused.attributes or {})["authz.reason"] == "key_missing"
    assert refused.status.status_code is StatusCode.UNSET
    memory.exporter.clear()
    await stack.decide(asked())
    assert memory.spans()["authz.check"].status.status_code is StatusCode.ERROR


async def test_what_is_not_sampled_has_no_span_and_leaves_nothing(memory: Memory) -> None:
    stack = memory.trace(CheckerUnderTest(*[take("servers:read")] * 3, tracer=memory.checks))
    untraced = replace(asked(), call=None)
    await stack.decide_all(asked("00"), untraced, asked("02"))
    assert memory.spans() == {}
    assert memory.checks.unfinished == 0
    broken = replace(asked(), call=call(f"00-{'0' * 32}-{PARENT}-01"))
    memory.checks.decided([(1, broken, Allow(stack.checker.policy.routes[0]))], 0.001)
    assert memory.spans() == {}


async def test_a_batch_traces_its_sampled_checks_only_and_each_once(memory: Memory) -> None:
    stack = memory.trace(CheckerUnderTest(*[take("servers:read")] * 4, tracer=memory.checks))
    await stack.decide_all(asked("00"), asked("01"), asked("00"), asked("01"))
    memory.provider.force_flush()
    names = sorted(span.name for span in memory.exporter.get_finished_spans())
    assert names == ["authz.check", "authz.check", "redis", "redis"]
    assert memory.checks.unfinished == 0


async def test_a_key_in_the_id_of_a_request_is_masked(memory: Memory) -> None:
    stack = memory.trace(CheckerUnderTest(take("servers:read"), tracer=memory.checks))
    await stack.decide(replace(asked(), x_request_id=KEY.encode()))
    assert (memory.spans()["authz.check"].attributes or {})["authz.request_id"] == "[api key]"


@pytest.mark.parametrize(("flags", "count"), [("01", 1), ("00", 0)])
def test_a_request_of_the_portal_is_a_span(memory: Memory, flags: str, count: int) -> None:
    spans = RequestSpans(memory.provider, memory.masked)
    spans.served(f"00-{TRACE}-{PARENT}-{flags}", "req-1", "GET", "/dashboard/login", 503, 0.01)
    spans.served("nonsense", "req-1", "GET", "/dashboard/login", 200, 0.01)
    memory.provider.force_flush()
    found = memory.exporter.get_finished_spans()
    assert len(found) == count
    for span in found:
        assert (span.name, span.status.status_code) == ("GET /dashboard/login", StatusCode.ERROR)


def test_the_latest_trace_of_a_bucket_is_its_exemplar_in_openmetrics() -> None:
    from prometheus_client.openmetrics.exposition import generate_latest  # noqa: PLC0415 -- not that of the text format

    metrics = Metrics(lambda: {"redis": True, "postgres": True})
    metrics.decided([], 0.003)
    metrics.traced(0.003, TRACE)
    text = generate_latest(registry(metrics).snapshot()).decode()  # type: ignore[no-untyped-call]
    (line,) = [line for line in text.splitlines() if f'trace_id="{TRACE}"' in line]
    assert line.startswith('authz_check_duration_seconds_bucket{le="0.005"}')
