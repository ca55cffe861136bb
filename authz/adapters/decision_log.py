"""The decision log: one JSON line for every refusal and for a sample of what was allowed.

What goes into it is chosen field by field, so that no key, header or query can slip in; the raw path stays out because
callers put secrets where they should not.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from authz.core.check import Allow, Decision, RequestAttributes
from authz.service.ports import Decided

Write: TypeAlias = Callable[[dict[str, Any]], None]


class DecisionLog:
    """Writes checks down.

    `write` takes a line's fields; None writes nothing. `sample` is the share of allowed checks that is written, from 0
    to 1; `chance` gives numbers in [0, 1).
    """

    def __init__(self, write: Write | None, *, sample: float, chance: Callable[[], float]) -> None:
        self._write = write
        self._sample = sample
        self._chance = chance

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Write decisions that were made together, but for ordinary allows outside the sample."""
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
