"""The spans of sampled checks.

A caller's trace context decides whether there is a span; nothing is sampled here. Checks that are not sampled cost one
look at the end of their context. Of a sampled one, the event loop notes times and the decision, and the thread of the
export makes the spans. What is measured between the start and the end of a check is decided in `service/check/`.
"""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, sleep
from typing import Final

from msgspec import Struct
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
from authz.core.check import Allow, Principal, RequestAttributes, logged_id
from authz.core.errors import DENIALS, DenyReason
from authz.core.policy.route import Route
from authz.core.traces.context import Traced, trace_context
from authz.core.value import Value
from authz.service.ports import Decided, Taken, TakeReply

_OPEN_MAX: Final = 4_096
_STEPS_MAX: Final = 8
_WITHOUT_BREAK: Final = 64  # about a millisecond
_BREAK_S: Final = 0.001
_POSTGRES: Final = shared_fields("postgres", proto.Span.SPAN_KIND_CLIENT, LOCAL, (("db.system.name", "postgresql"),))


class _Step(Struct):
    """A part of a check: its times are of `perf_counter`; `end_s` is 0 until its end."""

    name: str
    start_s: float
    end_s: float = 0.0


class _Check(Struct):
    """A sampled check. It holds its attributes, so that their identity stays its key until the decision."""

    attributes: RequestAttributes
    steps: list[_Step]


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
    steps: list[_Step]


class CheckSpans:
    """The tracer of checks (`service.check.tracer.CheckTracer`).

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
        self._open: dict[int, _Check] = {}
        self._queue = SpanQueue(self._export)

    @property
    def unfinished(self) -> int:
        """The number of sampled checks without a decision."""
        return len(self._open)

    def dropped(self) -> Mapping[str, int]:
        """Return the number of sampled checks whose spans were not exported, by cause."""
        return self._queue.dropped

    def timed(self, requests: Sequence[tuple[int, RequestAttributes]], sampled: frozenset[int], taken: Taken) -> Taken:
        """Measure one call of the store for the sampled requests among its own; `taken` itself if there are none."""
        indices = [index for index, (number, _) in enumerate(requests) if number in sampled]
        if not indices:
            return taken
        start_s = perf_counter()
        steps = {index: self._added(requests[index][1], _Step("redis", start_s)) for index in indices}

        def noted(indices: Sequence[int], replies: Sequence[TakeReply]) -> None:
            end_s = perf_counter()
            answered = indices if isinstance(indices, range) else set(indices)
            for index, step in steps.items():
                if index in answered:
                    step.end_s = end_s
            taken(indices, replies)

        return noted

    def arrived(self, decided: Sequence[Decided], sampled: frozenset[int]) -> None:
        """Begin the sampled ones among checks that were decided without a store."""
        for number, attributes, _ in decided:
            if number in sampled:
                self._check(attributes)

    def begin(self, attributes: RequestAttributes, step: str) -> None:
        """Begin a step of a check, if that is sampled."""
        if id(attributes) in self._open:
            self._added(attributes, _Step(step, perf_counter()))

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
            self._added(attributes, _Step(step, latest.start_s, latest.end_s))

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Queue the sampled checks among decisions that were made together."""
        if not self._open:
            return
        now_s, is_open = perf_counter(), self._open
        for _, it, decision in [each for each in decided if id(each[1]) in is_open]:
            check = is_open.pop(id(it), None)
            if check is None or it.call is None:
                continue
            reason = None if isinstance(decision, Allow) else decision.reason
            id_, x_id, route, principal = it.request_id, it.x_request_id, decision.route, decision.principal
            self._queue.put(_Finished(it.call, id_, x_id, route, principal, reason, latency_s, now_s, check.steps))
            self._on_traced(latency_s, it.call)

    def close(self, deadline_s: float) -> None:
        """Export what is queued, as far as that is possible within `deadline_s`; blocks."""
        self._queue.close(deadline_s)

    def _check(self, attributes: RequestAttributes) -> _Check:
        check = self._open.get(id(attributes))
        if check is None:
            check = _Check(attributes, [])
            if len(self._open) < _OPEN_MAX:
                self._open[id(attributes)] = check
        return check

    def _added(self, attributes: RequestAttributes, step: _Step) -> _Step:
        steps = self._check(attributes).steps
        if len(steps) < _STEPS_MAX:
            steps.append(step)
        return step

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
                _POSTGRES if step.name == "postgres" else _of_redis(step.name),
            )
            for step in check.steps
        ]
        request_id = self._masked(logged_id(check.x_request_id, check.request_id))[:TEXT_CHARS_MAX]
        own = own_attribute("authz.request_id", request_id)
        ids = trace_id, own_id, bytes.fromhex(parent.span_id)
        # The latency ended a moment ago, with the answer.
        start_s = min([check.end_s - check.latency_s, *(step.start_s for step in check.steps)])
        spans.append(span(ids, (clock.ns(start_s), end_ns), own + _described(check)))
        return spans


def _described(check: _Finished) -> bytes:
    """Serialise what a decision says, and all decisions that are like it."""
    route, principal, reason = check.route, check.principal, check.reason
    texts = {"authz.decision": "allow" if reason is None else "deny"}
    if route is not None:
        texts |= {"http.route": route.template, "http.request.method": route.method}
    if principal is not None:
        texts |= {"authz.account_id": principal.account_id, "authz.key_id": principal.key_id}
    error = ""
    if reason is not None:
        texts["authz.reason"] = reason.value
        error = reason.value if DENIALS[reason].http >= FAILED_HTTP else ""
    return shared_fields("authz.check", proto.Span.SPAN_KIND_SERVER, REMOTE, tuple(texts.items()), error)


def _of_redis(name: str) -> bytes:
    return shared_fields(name, proto.Span.SPAN_KIND_CLIENT, LOCAL, (("db.system.name", "redis"),))
