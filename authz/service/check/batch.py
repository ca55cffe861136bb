"""The state of checks that arrived together, from their plans to their responses.

`checker.py` processes batches; requests and decisions are defined in `core/check.py`.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec import Struct

from authz.core.check import Deny, Lookup, RequestAttributes
from authz.core.errors import DenyReason, StoreUnavailable
from authz.core.policy.policy import Policy
from authz.core.policy.route import Route
from authz.service.check.steps import Steps
from authz.service.ports import Decided

_RETRY_AFTER_S = 1

_log = logging.getLogger("authz.check")

Answer: TypeAlias = Callable[[Sequence[Decided]], bool | None]
"""Sends the decisions on some requests of a batch; returns False if the only caller no longer waits."""


class Batch(Struct):
    """Checks that arrived together. `requests` and `lookups` list those that need the projection, in the same order.

    All of them use the policy that was in force when they arrived. `steps` measures those whose callers record their
    traces, and is None if there are none. `loaded` is set after their key was loaded.
    """

    policy: Policy
    answer: Answer
    started_s: float
    requests: list[tuple[int, RequestAttributes]]
    lookups: list[Lookup]
    steps: Steps | None
    loaded: bool = False


class PendingCheck(Struct):
    """One check of a batch that waits longer than the others."""

    batch: Batch
    number: int
    attributes: RequestAttributes
    lookup: Lookup

    def alone(self, *, loaded: bool = False) -> Batch:
        """Return a batch of this check only."""
        of, requests = self.batch, [(self.number, self.attributes)]
        steps = None if of.steps is None else of.steps.alone(self.number)
        return Batch(of.policy, of.answer, of.started_s, requests, [self.lookup], steps, loaded)

    def begin(self, step: str) -> None:
        """Begin a step, if the check is sampled (`steps.Steps`)."""
        if self.batch.steps is not None:
            self.batch.steps.begin(self.number, step)

    def end(self) -> None:
        """End the step that began last."""
        if self.batch.steps is not None:
            self.batch.steps.end(self.number)


def broken(attributes: RequestAttributes) -> Deny:
    """Log the current exception, and return the refusal."""
    _log.exception("a check failed", extra={"request_id": attributes.logged_id})
    return Deny(DenyReason.INTERNAL, retry_after_s=_RETRY_AFTER_S)


def unavailable(route: Route | None, failure: StoreUnavailable) -> Deny:
    """Return the refusal for a store that did not respond."""
    return Deny(DenyReason.STORE_UNAVAILABLE, route, retry_after_s=_RETRY_AFTER_S, detail=str(failure))
