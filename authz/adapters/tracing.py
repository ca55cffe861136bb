"""Spans of sampled checks and portal requests, by OpenTelemetry's SDK, exported over OTLP/HTTP.

A caller's trace context decides whether there is a span; nothing is sampled here. Checks that are not sampled cost one
look at the flag of their context. The export runs on a thread of the SDK, with a bounded queue, and its failures never
reach a check. What is measured between the start and the end of a check is decided in `service/check/`.
"""

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from authz import __version__
from authz.core.check import Allow, RequestAttributes
from authz.core.errors import DENIALS
from authz.service.ports import Decided, Taken, TakeReply

_PATH: Final = "/v1/traces"
_EXPORT_S: Final = 5.0
_OPEN_MAX: Final = 4_096
_STEPS_MAX: Final = 8
_TEXT_CHARS_MAX: Final = 128
_FAILED_HTTP: Final = 500
_NS_PER_S: Final = 1_000_000_000
# https://www.w3.org/TR/trace-context/#traceparent-header
_CONTEXT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")

# The SDK warns about full queues and collectors that do not answer; the process' log limits their number.
logging.getLogger("opentelemetry").setLevel(logging.WARNING)
logging.getLogger("urllib3").setLevel(logging.ERROR)


def tracer_provider(endpoint: str, service: str, exporter: SpanExporter | None = None) -> TracerProvider:
    """Create the provider of one process; `endpoint` is the base URL of a collector, `service` the name of the process.

    The attributes of `OTEL_RESOURCE_ATTRIBUTES` and the headers of `OTEL_EXPORTER_OTLP_HEADERS` apply, as everywhere.
    """
    resource = Resource.create({"service.name": service, "service.version": __version__})
    provider = TracerProvider(resource=resource, sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    url = endpoint.rstrip("/")
    target = url if url.endswith(_PATH) else url + _PATH
    chosen = exporter or OTLPSpanExporter(endpoint=target, timeout=_EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(chosen))
    return provider


@dataclass(slots=True)
class _Step:
    """A part of a check: its times are of `perf_counter`; `end_s` is 0 until its end."""

    name: str
    start_s: float
    end_s: float = 0.0


@dataclass(slots=True)
class _Open:
    """A sampled check without a decision. It holds its attributes, so that their identity stays its key."""

    attributes: RequestAttributes
    steps: list[_Step] = field(default_factory=list)


class CheckSpans:
    """The tracer of checks (`service.ports.CheckTracer`).

    `masked` replaces API keys in a text. `on_traced` receives the duration and the trace id of each span of a check.
    """

    def __init__(
        self, provider: TracerProvider, masked: Callable[[str], str], on_traced: Callable[[float, str], None]
    ) -> None:
        self._tracer = provider.get_tracer("authz", __version__)
        self._masked = masked
        self._on_traced = on_traced
        self._open: dict[int, _Open] = {}

    @property
    def unfinished(self) -> int:
        """The number of sampled checks without a decision."""
        return len(self._open)

    def timed(self, requests: Sequence[tuple[int, RequestAttributes]], taken: Taken) -> Taken:
        """Measure one call of the store for the sampled requests among its own; `taken` itself if there are none."""
        sampled = {
            index: attributes
            for index, (_, attributes) in enumerate(requests)
            if attributes.call is not None and attributes.call.is_sampled
        }
        if not sampled:
            return taken
        start_s = perf_counter()

        def noted(indices: Sequence[int], replies: Sequence[TakeReply]) -> None:
            end_s = perf_counter()
            for index in indices:
                if index in sampled:
                    self._add(sampled[index], _Step("redis", start_s, end_s))
            taken(indices, replies)

        return noted

    def begin(self, attributes: RequestAttributes, step: str) -> None:
        """Begin a step of a check, if that is sampled."""
        if attributes.call is not None and attributes.call.is_sampled:
            self._add(attributes, _Step(step, perf_counter()))

    def end(self, attributes: RequestAttributes, step: str) -> None:
        """End the latest step of this name, if it has begun."""
        found = self._open.get(id(attributes))
        for each in reversed(found.steps if found is not None else []):
            if each.name == step and not each.end_s:
                each.end_s = perf_counter()
                return

    def repeat(self, attributes: RequestAttributes, step: str) -> None:
        """Add a step with the times of the latest one, which did both."""
        found = self._open.get(id(attributes))
        if found is not None and found.steps:
            latest = found.steps[-1]
            self._add(attributes, _Step(step, latest.start_s, latest.end_s))

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Export the spans of the sampled checks among decisions that were made together."""
        for _, attributes, decision in decided:
            call = attributes.call
            if call is None or not call.is_sampled:
                continue
            found = self._open.pop(id(attributes), None)
            parent = _parent(call.traceparent)
            if parent is None:
                continue
            clock = _Clock()
            steps = found.steps if found is not None else []
            # The latency ended a moment ago, with the answer.
            start_s = min([clock.now_s - latency_s, *(step.start_s for step in steps)])
            span = self._span("authz.check", parent, clock.ns(start_s), SpanKind.SERVER)
            span.set_attribute("authz.decision", "allow" if isinstance(decision, Allow) else "deny")
            span.set_attribute("authz.request_id", self._masked(attributes.logged_id)[:_TEXT_CHARS_MAX])
            if decision.route is not None:
                span.set_attribute("http.route", decision.route.template)
                span.set_attribute("http.request.method", decision.route.method)
            if decision.principal is not None:
                span.set_attribute("authz.account_id", decision.principal.account_id)
                span.set_attribute("authz.key_id", decision.principal.key_id)
            if not isinstance(decision, Allow):
                span.set_attribute("authz.reason", decision.reason.value)
                if DENIALS[decision.reason].http >= _FAILED_HTTP:
                    span.set_status(Status(StatusCode.ERROR, decision.reason.value))
            for step in steps:
                child = self._span(step.name, span.get_span_context(), clock.ns(step.start_s), SpanKind.CLIENT)
                child.set_attribute("db.system.name", "postgresql" if step.name == "postgres" else "redis")
                child.end(clock.ns(step.end_s or clock.now_s))
            span.end(clock.ns(clock.now_s))
            self._on_traced(latency_s, f"{parent.trace_id:032x}")

    def _span(self, name: str, parent: SpanContext, start_ns: int, kind: SpanKind) -> Span:
        context = set_span_in_context(NonRecordingSpan(parent))
        return self._tracer.start_span(name, context, kind=kind, start_time=start_ns)

    def _add(self, attributes: RequestAttributes, step: _Step) -> None:
        found = self._open.get(id(attributes))
        if found is None:
            if len(self._open) >= _OPEN_MAX:
                return
            found = self._open[id(attributes)] = _Open(attributes)
        if len(found.steps) < _STEPS_MAX:
            found.steps.append(step)


class RequestSpans:
    """The tracer of the portal's requests (`service.portal.ports.RequestTracer`)."""

    def __init__(self, provider: TracerProvider, masked: Callable[[str], str]) -> None:
        self._tracer = provider.get_tracer("authz.portal", __version__)
        self._masked = masked

    def served(self, traceparent: str, request_id: str, method: str, template: str, status: int, took_s: float) -> None:
        """Export the span of one request, if its caller records the trace."""
        parent = _parent(traceparent)
        if parent is None or not parent.trace_flags.sampled:
            return
        end_ns = time.time_ns()
        context = set_span_in_context(NonRecordingSpan(parent))
        start_ns = end_ns - int(took_s * _NS_PER_S)
        span = self._tracer.start_span(f"{method} {template}", context, kind=SpanKind.SERVER, start_time=start_ns)
        span.set_attribute("http.request.method", method)
        span.set_attribute("http.route", template)
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("authz.request_id", self._masked(request_id)[:_TEXT_CHARS_MAX])
        if status >= _FAILED_HTTP:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_ns)


class _Clock:
    """Turns times of `perf_counter` into Unix time, as both are at this moment."""

    def __init__(self) -> None:
        self.now_s = perf_counter()
        self._now_ns = time.time_ns()

    def ns(self, at_s: float) -> int:
        return self._now_ns - int((self.now_s - at_s) * _NS_PER_S)


def _parent(traceparent: str) -> SpanContext | None:
    found = _CONTEXT.fullmatch(traceparent)
    if found is None:
        return None
    flags = TraceFlags(int(found[3], 16))
    return SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags)
