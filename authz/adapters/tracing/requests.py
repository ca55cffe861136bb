"""The spans of portal requests.

Those of checks are `checks.py`.
"""

import time
from collections.abc import Callable, Mapping, Sequence

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2 as proto

from authz.adapters.tracing.export import Send, SpanQueue
from authz.adapters.tracing.messages import (
    FAILED_HTTP,
    NS_PER_S,
    REMOTE,
    TEXT_CHARS_MAX,
    RequestMessage,
    attribute,
    span_id,
)
from authz.core.text import without_key
from authz.core.traces.context import trace_context


class RequestSpans:
    """The tracer of the portal's requests (`service.portal.ports.RequestTracer`)."""

    def __init__(self, service: str, send: Send, masked: Callable[[str], str]) -> None:
        self._message = RequestMessage(service, "authz.portal")
        self._send = send
        self._masked = masked
        self._queue: SpanQueue[proto.Span] = SpanQueue(self._export)

    def dropped(self) -> Mapping[str, int]:
        """Return the number of spans that were not exported, by cause."""
        return self._queue.dropped

    def served(self, traceparent: str, request_id: str, method: str, template: str, status: int, took_s: float) -> None:
        """Export the span of one request, if its caller records the trace."""
        parent = trace_context(traceparent)
        if parent is None or not parent.is_sampled:
            return
        end_ns = time.time_ns()
        span = proto.Span(
            trace_id=bytes.fromhex(parent.trace_id),
            span_id=span_id(),
            parent_span_id=bytes.fromhex(parent.span_id),
            name=f"{method} {template}",
            kind=proto.Span.SPAN_KIND_SERVER,
            start_time_unix_nano=end_ns - int(took_s * NS_PER_S),
            end_time_unix_nano=end_ns,
            flags=REMOTE,
            attributes=[
                attribute("http.request.method", method),
                attribute("http.route", template),
                KeyValue(key="http.response.status_code", value=AnyValue(int_value=status)),
                attribute("authz.request_id", self._masked(without_key(request_id))[:TEXT_CHARS_MAX]),
            ],
        )
        if status >= FAILED_HTTP:
            span.status.code = proto.Status.STATUS_CODE_ERROR
        self._queue.put(span)

    def _export(self, spans: Sequence[proto.Span]) -> bool:
        return self._send(self._message.of(span.SerializeToString() for span in spans))

    def close(self, deadline_s: float) -> None:
        """Export what is queued, as far as that is possible within `deadline_s`; blocks."""
        self._queue.close(deadline_s)
