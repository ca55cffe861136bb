"""The decision log: one JSON line for each denial and for a sample of allowed checks.

Each field is listed explicitly, so that no key, header or query is logged. The raw path is never logged, because
callers put secrets into paths.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from authz.core.check import Allow, Decision, RequestAttributes
from authz.service.ports import Decided

Write: TypeAlias = Callable[[dict[str, Any]], None]


class DecisionLog:
    """Logs decisions.

    `write` accepts the fields of a line; None disables the log. `sample` is the share of allowed checks that is logged,
    from 0 to 1. `chance` returns numbers in [0, 1).
    """

    def __init__(self, write: Write | None, *, sample: float, chance: Callable[[], float]) -> None:
        self._write = write
        self._sample = sample
        self._chance = chance

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Log decisions that were made together, except ordinary allows outside the sample."""
        for _, attributes, decision in decided:
            if isinstance(decision, Allow) and decision.would_deny is None and self._chance() >= self._sample:
                continue
            if self._write is not None:
                self._write(_fields(attributes, decision) | {"latency_ms": round(latency_s * 1000, 3)})


def _fields(attributes: RequestAttributes, decision: Decision) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "event": "decision",
        "decision": "allow" if isinstance(decision, Allow) else "deny",
        "method": attributes.method,
        "route": decision.route.template if decision.route else None,
        "request_id": attributes.request_id,
        "source_address": attributes.source_address(),
    }
    if decision.principal is not None:
        fields |= {"account_id": decision.principal.account_id, "key_id": decision.principal.key_id}
    if isinstance(decision, Allow):
        return fields if decision.would_deny is None else fields | {"would_deny": decision.would_deny.value}
    fields["reason"] = decision.reason.value
    return fields | {"detail": decision.detail} if decision.detail else fields
