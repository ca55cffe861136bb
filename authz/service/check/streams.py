"""Streams that are about to open: each holds a lease before its check is allowed.

`leases.py` renews and releases the leases of open streams.
"""

from collections.abc import Callable
from typing import TypeAlias

from msgspec.structs import replace

from authz.core.check import Allow, Decision, Deny, Lookup, RequestAttributes
from authz.core.decision import admit
from authz.core.errors import DenyReason, StoreUnavailable
from authz.core.policy.policy import Policy
from authz.core.streams import Acquisition, Lease
from authz.service.check.batch import PendingCheck, unavailable
from authz.service.check.leases import Leases
from authz.service.check.tasks import Tasks
from authz.service.ports import CheckObserver

Finish: TypeAlias = Callable[[PendingCheck, Decision], bool | None]
"""Answers one check; returns False if its caller no longer waits."""


class StreamOpenings:
    """Acquires leases for checks that open a stream, and undoes those whose caller has gone."""

    def __init__(self, leases: Leases, observer: CheckObserver, finish: Finish) -> None:
        self._leases = leases
        self._observer = observer
        self._finish = finish
        self._tasks = Tasks()

    def with_opening(self, policy: Policy, attributes: RequestAttributes, lookup: Lookup, stream: str) -> Lookup:
        """Let the call that takes the token also acquire the lease, if possible."""
        if not attributes.request_id:  # without Envoy's id, streams cannot be distinguished
            return lookup
        return replace(lookup, opening=self._leases.opening(attributes.request_id, policy.streams[stream]))

    def conclude(self, check: PendingCheck, decision: Decision, acquired: Acquisition | None = None) -> None:
        """Answer a check on a stream route, after its lease was acquired or refused."""
        if not isinstance(decision, Allow):
            self._finish(check, decision)
        elif acquired is None:
            self._tasks.begin(self._acquire(check, decision))
        else:
            stream = check.batch.policy.streams[decision.route.stream]
            self._leases.acquired(stream, acquired)
            if check.batch.steps is not None:
                check.batch.steps.repeat(check.number, "lease")
            self._finish_leased(check, admit(decision, stream, check.attributes.request_id, acquired))

    async def close(self) -> None:
        """Wait for the leases that are being acquired or undone."""
        await self._tasks.finish()

    async def _acquire(self, check: PendingCheck, allow: Allow) -> None:
        route, principal, request_id = allow.route, allow.principal, check.attributes.request_id
        if principal is None or not request_id:
            self._finish(check, Deny(DenyReason.INTERNAL, route, principal, detail="a stream without an id"))
            return
        stream = check.batch.policy.streams[route.stream]
        lease = Lease(request_id, principal.account_id, principal.key_id, stream.name)
        decision: Decision = unavailable(route, StoreUnavailable("redis", "acquiring the lease was interrupted"))
        check.begin("lease")
        try:
            decision = admit(allow, stream, request_id, await self._leases.acquire(lease, stream))
        except StoreUnavailable as failure:
            self._observer.store_failed(failure.store)
            decision = unavailable(route, failure)
        finally:
            check.end()
            self._finish_leased(check, decision)

    def _finish_leased(self, check: PendingCheck, decision: Decision) -> None:
        is_wanted, use, principal = self._finish(check, decision), decision.streams, decision.principal
        if is_wanted is False and use is not None and use.lease_id and principal is not None:
            lease = Lease(use.lease_id, principal.account_id, principal.key_id, use.stream.name)
            self._tasks.begin(self._leases.undo(lease))
