"""The spans of sampled checks.

A caller's trace context decides whether there is a span; nothing is sampled here. Checks that are not sampled cost one
look at the end of their context. Of a sampled one, the event loop notes times and the decision, and the thread of the
export makes the spans. What is measured between the start and the end of a check is decided in `service/check/`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from authz.core.check import Allow, Principal, RequestAttributes
from authz.core.errors import DENIALS, DenyReason
from authz.core.policy.route import Route
from authz.core.traces.context import Traced, trace_context
from authz.core.value import Value
from authz.service.ports import Decided, Taken, TakeReply

_OPEN_MAX: Final = 4_096
_STEPS_MAX: Final = 8
_WITHOUT_BREAK: Final = 16
_BREAK_S: Final = 0.001
_POSTGRES: Final = shared_fields("postgres", proto.Span.SPAN_KIND_CLIENT, LOCAL, (("db.system.name", "postgresql"),))


@dataclass(slots=True)
class _Step:
    """A part of a check: its times are of `perf_counter`; `end_s` is 0 until its end."""

    name: str
    start_s: float
    end_s: float = 0.0


@dataclass(slots=True)
class _Check:
    """A sampled check. It holds its attributes, so that their identity stays its key until the decision."""

    attributes: RequestAttributes
    steps: list[_Step] = field(default_factory=list)


class _Finished(Value):
    """What a span says of a decided check.

    It holds neither the request with its key, nor much memory: what stays behind among the objects of later checks
    costs them cache misses.
    """

    call: Traced
    request_id: str
    route: Route | None
    principal: Principal | None
    reason: DenyReason | None
    start_s: float
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

    def timed(self, requests: Sequence[tuple[int, RequestAttributes]], taken: Taken) -> Taken:
        """Measure one call of the store for the sampled requests among its own; `taken` itself if there are none."""
        sampled = [at for at, (_, it) in enumerate(requests) if (call := it.call) is not None and call.is_sampled]
        if not sampled:
            return taken
        start_s = perf_counter()
        steps = {index: self._added(requests[index][1], _Step("redis", start_s)) for index in sampled}

        def noted(indices: Sequence[int], replies: Sequence[TakeReply]) -> None:
            end_s = perf_counter()
            answered = indices if isinstance(indices, range) else set(indices)
            for index, step in steps.items():
                if index in answered:
                    step.end_s = end_s
            taken(indices, replies)

        return noted

    def arrived(self, decided: Sequence[Decided]) -> None:
        """Begin the sampled ones among checks that were decided without a store."""
        for _, attributes, _ in decided:
            if (call := attributes.call) is not None and call.is_sampled:
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
        for _, attributes, decision in [each for each in decided if id(each[1]) in is_open]:
            check = is_open.pop(id(attributes), None)
            if check is None or attributes.call is None:
                continue
            # The latency ended a moment ago, with the answer.
            start_s = min([now_s - latency_s, *(step.start_s for step in check.steps)])
            reason = None if isinstance(decision, Allow) else decision.reason
            call, logged_id = attributes.call, attributes.logged_id
            self._queue.put(
                _Finished(call, logged_id, decision.route, decision.principal, reason, start_s, now_s, check.steps)
            )
            self._on_traced(latency_s, call)

    def close(self, deadline_s: float) -> None:
        """Export what is queued, as far as that is possible within `deadline_s`; blocks."""
        self._queue.close(deadline_s)

    def _check(self, attributes: RequestAttributes) -> _Check:
        check = self._open.get(id(attributes))
        if check is None:
            check = _Check(attributes)
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
            if number % _WITHOUT_BREAK == 0:
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
        own = own_attribute("authz.request_id", self._masked(check.request_id)[:TEXT_CHARS_MAX])
        ids = trace_id, own_id, bytes.fromhex(parent.span_id)
        spans.append(span(ids, (clock.ns(check.start_s), end_ns), own + _described(check)))
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
