"""The parts of an OTLP request of spans, serialised.

A span of the SDK costs ten times as much as a message, and the encoder of the exporter as much again. What many spans
share is serialised once. A test compares the result with protobuf.
"""

import random
import time
from collections.abc import Iterable
from functools import cache, lru_cache
from struct import Struct
from time import perf_counter
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
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
_SEVEN_BITS, _MORE = 0x7F, 0x80  # of a variable length
# The tags of ExportTraceServiceRequest.resource_spans, ResourceSpans.scope_spans, ScopeSpans.spans and Span.attributes
_RESOURCE_SPANS, _SCOPE_SPANS, _SPANS, _ATTRIBUTES = b"\x0a", b"\x12", b"\x12", b"\x4a"
# The tags of KeyValue.key and value, and of AnyValue.string_value
_KEY, _VALUE, _STRING = b"\x0a", b"\x12", b"\x0a"
# Span.trace_id, span_id and parent_span_id, start_time_unix_nano and end_time_unix_nano, each with its tag
_PACK: Final = Struct("<2s16s2s8s2s8sBQBQ").pack
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
        (around,) = encode_spans([empty]).resource_spans
        (scoped,) = around.scope_spans
        del scoped.spans[:]
        self._scope = scoped.SerializeToString()
        del around.scope_spans[:]
        self._resource = around.SerializeToString()

    def of(self, spans: Iterable[bytes]) -> bytes:
        """Encode the request for these serialised spans."""
        scoped = b"".join([self._scope, *(_sized(_SPANS, span) for span in spans)])
        return _sized(_RESOURCE_SPANS, self._resource + _sized(_SCOPE_SPANS, scoped))


def span(ids: tuple[bytes, bytes, bytes], times_ns: tuple[int, int], shared: bytes) -> bytes:
    """Serialise a span: the ids of its trace, of itself and of its parent, start and end, and its other fields.

    A reader merges the fields of a message in any order, so that those which many spans share are serialised once.
    """
    trace_id, own_id, parent_id = ids
    return (
        _PACK(b"\x0a\x10", trace_id, b"\x12\x08", own_id, b"\x22\x08", parent_id, 0x39, times_ns[0], 0x41, times_ns[1])
        + shared
    )


@lru_cache(_REPEATED_MAX)
def shared_fields(
    name: str, kind: proto.Span.SpanKind.ValueType, flags: int, attributes: tuple[tuple[str, str], ...], error: str = ""
) -> bytes:
    """Serialise the fields that many spans share; `error` is what a failed one reports."""
    fields = proto.Span(name=name, kind=kind, flags=flags, attributes=[attribute(*each) for each in attributes])
    if error:
        fields.status.CopyFrom(proto.Status(code=proto.Status.STATUS_CODE_ERROR, message=error))
    return fields.SerializeToString()


def own_attribute(name: str, text: str) -> bytes:
    """Serialise an attribute of one span, as a field of it."""
    key, value = _key(name), text.encode()
    size, key_size = len(value), len(key)
    if key_size + size + 4 <= _SEVEN_BITS:  # every length is one byte, as usual
        return b"%b%c%b%b%c%b%c%b" % (_ATTRIBUTES, key_size + size + 4, key, _VALUE, size + 2, _STRING, size, value)
    return _sized(_ATTRIBUTES, key + _sized(_VALUE, _sized(_STRING, value)))


@cache
def _key(name: str) -> bytes:
    return _sized(_KEY, name.encode())


def _sized(tag: bytes, content: bytes) -> bytes:
    size = len(content)
    length = bytearray(tag)
    while size > _SEVEN_BITS:
        length.append(size & _SEVEN_BITS | _MORE)
        size >>= 7
    length.append(size)
    return bytes(length) + content


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


def span_id() -> bytes:
    """Return another span id; it is no secret."""
    return random.getrandbits(_SPAN_ID_BITS).to_bytes(_SPAN_ID_BITS // 8)
