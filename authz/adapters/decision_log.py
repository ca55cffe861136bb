"""The decision log: one JSON line for each denial, within a rate, and for a sample of allowed checks.

Each field is listed explicitly, so that no key, header or query is logged. The raw path is never logged, because
callers put secrets into paths.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from authz.adapters.log_limits import LineLimits
from authz.core.check import Allow, Decision, RequestAttributes
from authz.core.errors import DenyReason
from authz.core.text import without_key
from authz.core.traces.context import trace_context
from authz.service.ports import Decided

Write: TypeAlias = Callable[[dict[str, Any]], None]

_TEXT_CHARS_MAX = 256
_KINDS_MAX = 16_384


class DecisionLog:
    """Logs decisions.

    `write` accepts the fields of a line; it may be replaced, and None disables the log. `sample` is the share of
    allowed checks that is logged, from 0 to 1. `chance` returns numbers in [0, 1). `limits` has a bucket for each
    reason of a denial. The first denial of each reason and route is always logged.
    """

    def __init__(
        self, write: Write | None, *, sample: float, chance: Callable[[], float], limits: LineLimits | None = None
    ) -> None:
        self.write = write
        self._sample = sample
        self._chance = chance
        self._limits = limits or LineLimits()
        self._kinds: set[tuple[DenyReason, str | None]] = set()

    @property
    def suppressed(self) -> int:
        """The number of denials that were not logged, because too many had the same reason."""
        return self._limits.total

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Log decisions that were made together, except ordinary allows outside the sample."""
        write, chance, sample = self.write, self._chance, self._sample
        for _, attributes, decision in decided:
            reason = decision.would_deny if isinstance(decision, Allow) else decision.reason
            if reason is None:
                if chance() < sample and write is not None:
                    write(_fields(attributes, decision, latency_s))
                continue
            suppressed = self._limits.admit(reason, always=self._is_first(reason, decision))
            if suppressed is None or write is None:
                continue
            fields = _fields(attributes, decision, latency_s)
            write(fields | {"suppressed": suppressed} if suppressed else fields)

    def report_suppressed(self) -> None:
        """Log the number of denials that were not logged since the last line of their reason."""
        for reason, count in self._limits.take_suppressed():
            if self.write is not None:
                self.write({"event": "denials not logged", "reason": str(reason), "suppressed": count})

    def _is_first(self, reason: DenyReason, decision: Decision) -> bool:
        kind = (reason, decision.route.template if decision.route else None)
        if kind in self._kinds or len(self._kinds) >= _KINDS_MAX:
            return False
        self._kinds.add(kind)
        return True


def _fields(attributes: RequestAttributes, decision: Decision, latency_s: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "event": "decision",
        "decision": "allow" if isinstance(decision, Allow) else "deny",
        "method": without_key(_bounded(attributes.method)),
        "route": decision.route.template if decision.route else None,
        "request_id": _bounded(attributes.logged_id),
        "stream_id": _bounded(attributes.request_id),
        "source_address": attributes.source_address(),
        "latency_ms": round(latency_s * 1000, 3),
    }
    trace = trace_context(attributes.call.traceparent) if attributes.call is not None else None
    if trace is not None:
        fields |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
    if decision.principal is not None:
        fields |= {"account_id": decision.principal.account_id, "key_id": decision.principal.key_id}
    if isinstance(decision, Allow):
        return fields if decision.would_deny is None else fields | {"would_deny": decision.would_deny.value}
    fields["reason"] = decision.reason.value
    return fields | {"detail": decision.detail} if decision.detail else fields


def _bounded(text: str) -> str:
    # Replaced, not cut: a part of a key would not be masked.
    return text if len(text) <= _TEXT_CHARS_MAX else "[too long]"
