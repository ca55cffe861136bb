"""The parts of an OTLP request of spans, as protobuf messages.

A span of the SDK costs ten times as much as a message, and the encoder of the exporter as much again.
"""

import random
import time
from collections.abc import Sequence
from functools import lru_cache
from time import perf_counter
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2 as proto
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from authz import __version__

NS_PER_S: Final = 1_000_000_000
TEXT_CHARS_MAX: Final = 128
"""The longest attribute that a caller has chosen."""

FAILED_HTTP: Final = 500
"""From which status on a span is an error."""

_SPAN_ID_BITS: Final = 64
_SAMPLED: Final = 1
_REPEATED_MAX: Final = 4_096
LOCAL: Final = _SAMPLED | proto.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
"""The flags of a span whose parent is of this process."""

REMOTE: Final = LOCAL | proto.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
"""The flags of a span whose parent is the caller's."""


class RequestMessage:
    """The request to a collector around some spans: the resource, with `OTEL_RESOURCE_ATTRIBUTES`, and the scope."""

    def __init__(self, service: str, scope: str) -> None:
        context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(_SAMPLED))
        empty = ReadableSpan(
            "",
            context,
            resource=Resource.create({"service.name": service, "service.version": __version__}),
            instrumentation_scope=InstrumentationScope(scope, __version__),
        )
        self._around = encode_spans([empty])
        del self._around.resource_spans[0].scope_spans[0].spans[:]

    def of(self, spans: Sequence[proto.Span]) -> bytes:
        """Encode the request for these spans."""
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._around)
        request.resource_spans[0].scope_spans[0].spans.extend(spans)
        return request.SerializeToString()


class Clock:
    """Turns times of `perf_counter` into Unix time, as both are at this moment."""

    def __init__(self) -> None:
        self._now_s, self._now_ns = perf_counter(), time.time_ns()

    def ns(self, at_s: float) -> int:
        """Return the Unix time in nanoseconds."""
        return self._now_ns - int((self._now_s - at_s) * NS_PER_S)


def attribute(name: str, text: str) -> KeyValue:
    """Create an attribute with a text."""
    return KeyValue(key=name, value=AnyValue(string_value=text))


repeated_attribute: Final = lru_cache(_REPEATED_MAX)(attribute)
"""Return an attribute whose text is that of many spans; it is not to be changed."""


def span_id() -> bytes:
    """Return another span id; it is no secret."""
    return random.getrandbits(_SPAN_ID_BITS).to_bytes(_SPAN_ID_BITS // 8)
