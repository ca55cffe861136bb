"""Spans that are serialised from fragments are those that protobuf and the exporter's own encoder would make."""

import secrets

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2 as proto

from authz.adapters.tracing.messages import LOCAL, RequestMessage, attribute, own_attribute, shared_fields, span

ATTRIBUTES = (("a", "x"), ("b", "é" * 70))


@pytest.mark.parametrize("chars", [0, 1, 108, 109, 118, 119, 127, 128, 16_350, 16_384, 2_100_000])
def test_a_span_from_fragments_is_the_same_message(chars: int) -> None:
    ids, text = (secrets.token_bytes(16), secrets.token_bytes(8), secrets.token_bytes(8)), "x" * chars
    shared = shared_fields("check", proto.Span.SPAN_KIND_SERVER, LOCAL, ATTRIBUTES, "broken")
    expected = proto.Span(
        trace_id=ids[0],
        span_id=ids[1],
        parent_span_id=ids[2],
        start_time_unix_nano=2**63 + 1,
        end_time_unix_nano=2**64 - 1,
        name="check",
        kind=proto.Span.SPAN_KIND_SERVER,
        flags=LOCAL,
        attributes=[attribute("own", text), *(attribute(*each) for each in ATTRIBUTES)],
        status=proto.Status(code=proto.Status.STATUS_CODE_ERROR, message="broken"),
    )
    made = span(ids, (2**63 + 1, 2**64 - 1), own_attribute("own", text) + shared)
    assert proto.Span.FromString(made) == expected
    request = ExportTraceServiceRequest.FromString(RequestMessage("service", "scope").of([made, made]))
    ((scoped,),) = (of.scope_spans for of in request.resource_spans)
    assert list(scoped.spans) == [expected, expected]
    assert scoped.scope.name == "scope"
    assert attribute("service.name", "service") in request.resource_spans[0].resource.attributes
