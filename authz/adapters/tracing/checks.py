"""The spans of sampled checks.

A caller's trace context decides whether there is a span; nothing is sampled here. Checks that are not sampled cost one
look at the end of their context. Of a sampled one, the event loop notes times (`service/check/steps.py`) and the
decision, and the thread of the export makes the spans.
"""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, sleep
from typing import Final

from opentelemetry.proto.trace.v1 import trace_pb2 as proto

from authz.adapters.tracing.export import Send, SpanQueue
from authz.adapters.tracing.messages import (
    FAILED_HTTP,
    LOCAL,
    REMOTE,
    TEXT_CHARS_MAX,
    Clock,
    RequestMessage,
    own_attribute,
    shared_fields,
    span,
    span_id,
)
from authz.core.check import Allow, Principal, logged_id
from authz.core.errors import DENIALS, DenyReason
from authz.core.policy.route import Route
from authz.core.traces.context import Traced, trace_context
from authz.core.traces.steps import SampledCheck, Step
from authz.core.value import Value

_WITHOUT_BREAK: Final = 64  # about a millisecond
_BREAK_S: Final = 0.001


class _Finished(Value):
    """What a span says of a decided check.

    It holds neither the request with its key, nor much memory: what stays behind among the objects of later checks
    costs them cache misses.
    """

    call: Traced
    request_id: str
    x_request_id: bytes
    route: Route | None
    principal: Principal | None
    reason: DenyReason | None
    latency_s: float
    end_s: float
    steps: Sequence[Step]


class CheckSpans:
    """The tracer of checks.

    `masked` replaces API keys in a text, on another thread. `on_traced` receives the duration and the trace context of
    each sampled check.
    """

    def __init__(
        self, service: str, send: Send, masked: Callable[[str], str], on_traced: Callable[[float, Traced], None]
    ) -> None:
        self._message = RequestMessage(service, "authz")
        self._send = send
        self._masked = masked
        self._on_traced = on_traced
        self._queue = SpanQueue(self._export)

    def dropped(self) -> Mapping[str, int]:
        """Return the number of sampled checks whose spans were not exported, by cause."""
        return self._queue.dropped

    def decided(self, checks: Sequence[SampledCheck], latency_s: float) -> None:
        """Queue checks that were decided together."""
        now_s = perf_counter()
        for check in checks:
            it, decision = check.attributes, check.decision
            if it.call is not None:
                reason = None if isinstance(decision, Allow) else decision.reason
                id_, x_id, route, principal = it.request_id, it.x_request_id, decision.route, decision.principal
                self._queue.put(_Finished(it.call, id_, x_id, route, principal, reason, latency_s, now_s, check.steps))
                self._on_traced(latency_s, it.call)

    def close(self, deadline_s: float) -> None:
        """Export what is queued, as far as that is possible within `deadline_s`; blocks."""
        self._queue.close(deadline_s)

    def _export(self, checks: Sequence[_Finished]) -> bool:
        clock, spans = Clock(), list[bytes]()
        for number, check in enumerate(checks):
            spans += self._spans(check, clock)
            if number % _WITHOUT_BREAK == _WITHOUT_BREAK - 1:
                sleep(_BREAK_S)  # the event loop needs the interpreter lock
        return not spans or self._send(self._message.of(spans))

    def _spans(self, check: _Finished, clock: Clock) -> list[bytes]:
        parent = trace_context(check.call.traceparent)
        if parent is None:
            return []
        trace_id, own_id, end_ns = bytes.fromhex(parent.trace_id), span_id(), clock.ns(check.end_s)
        spans = [
            span(
                (trace_id, span_id(), own_id),
                (clock.ns(step.start_s), clock.ns(step.end_s) if step.end_s else end_ns),
                _STEPS[step.name],
            )
            for step in check.steps
        ]
        request_id = self._masked(logged_id(check.x_request_id, check.request_id))[:TEXT_CHARS_MAX]
        own = own_attribute("authz.request_id", request_id)
        if check.principal is not None:
            own += own_attribute("authz.account_id", check.principal.account_id)
            own += own_attribute("authz.key_id", check.principal.key_id)
        ids = trace_id, own_id, bytes.fromhex(parent.span_id)
        # The latency ended a moment ago, with the answer.
        start_s = min([check.end_s - check.latency_s, *(step.start_s for step in check.steps)])
        spans.append(span(ids, (clock.ns(start_s), end_ns), own + _described(check.route, check.reason)))
        return spans


def _described(route: Route | None, reason: DenyReason | None) -> bytes:
    """Serialise what a decision says, and all decisions on a row that are like it."""
    texts = {"authz.decision": "allow" if reason is None else "deny"}
    if route is not None:
        texts |= {"http.route": route.template, "http.request.method": route.method}
    error = ""
    if reason is not None:
        texts["authz.reason"] = reason.value
        error = reason.value if DENIALS[reason].http >= FAILED_HTTP else ""
    return shared_fields("authz.check", proto.Span.SPAN_KIND_SERVER, REMOTE, tuple(texts.items()), error)


def _of_store(name: str, system: str) -> bytes:
    return shared_fields(name, proto.Span.SPAN_KIND_CLIENT, LOCAL, (("db.system.name", system),))


_STEPS: Final = {
    "redis": _of_store("redis", "redis"),
    "postgres": _of_store("postgres", "postgresql"),
    "lease": _of_store("lease", "redis"),
}
