"""Leases of open streams: acquired by a check, renewed by heartbeats, released at the end of the stream.

`edge/access_log.py` parses Envoy's heartbeats; a `ports.LeaseStore` counts leases. Renewals and releases are background
tasks; they start in the order in which the heartbeats arrived.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from authz.core.errors import StoreUnavailable
from authz.core.streams import Acquisition, Lease, Opening, ReleaseCause, RenewOutcome, StreamClass
from authz.service.check.tasks import Tasks
from authz.service.ports import LeaseObserver, LeaseStore

PENDING_HEARTBEATS = 3
"""How long a new lease waits for its first heartbeat; Envoy's timer starts with the request, before the check."""
SUSPECT_HEARTBEATS = 2.5
"""How long a lease waits after its reporter disconnected: more than one heartbeat, because an open stream must keep its
slot while its Envoy reconnects, and one more that may have been lost with the old connection."""
SETTLE_HEARTBEATS = 1.5
"""How long no stream may open after a store is available again: by then every open stream has been reported, also by a
sidecar that reconnected half a second later."""

_TASKS_MAX = 20_000
_RETRY_MIN_S = 0.05
_RETRY_MAX_S = 1.0
_GUARD_S = 60

_log = logging.getLogger("authz.streams")


@dataclass(frozen=True, slots=True)
class _Heartbeat:
    lease: Lease
    opened_at_ms: int
    reporter: Hashable
    at_s: float


class Leases:
    """The leases that are reported to this sidecar, whichever sidecar acquired them.

    `stream_class` finds a class of the current policy by name. `heartbeat_s` is the interval between two reports of an
    open stream. A `reporter` identifies the source of heartbeats: one call of one connection.
    """

    def __init__(
        self,
        store: LeaseStore,
        observer: LeaseObserver,
        *,
        stream_class: Callable[[str], StreamClass | None],
        heartbeat_s: float,
    ) -> None:
        self._store = store
        self._observer = observer
        self._class = stream_class
        self._heartbeat_s = heartbeat_s
        # The latest heartbeat of each stream, the oldest first.
        self._alive: dict[Lease, _Heartbeat] = {}
        self._caught_up_s: float | None = None
        self._tasks = Tasks(_TASKS_MAX)

    def alive(self) -> Counter[str]:
        """Count the streams with a recent heartbeat, by class."""
        self._forget_silent()
        return Counter(lease.stream for lease in self._alive)

    def opening(self, request_id: str, stream: StreamClass) -> Opening | None:
        """Return the lease to acquire for a stream that is about to open.

        None while no stream may open, because open streams are reported again to a store that may have lost leases.
        """
        since_s = self._store.reconnected_at_s
        if since_s is not None and self._now_s() < since_s + SETTLE_HEARTBEATS * self._heartbeat_s:
            return None
        return Opening(request_id, stream, min(stream.ttl_s, PENDING_HEARTBEATS * self._heartbeat_s))

    async def acquire(self, lease: Lease, stream: StreamClass) -> Acquisition:
        """Acquire a lease for a stream that is about to open; raises `StoreUnavailable`, also while none may open."""
        opening = self.opening(lease.lease_id, stream)
        if opening is None:
            raise StoreUnavailable("redis", "open streams are being counted anew")
        acquired = await self._store.acquire(lease, stream, opening.pending_s)
        self.acquired(stream, acquired)
        return acquired

    def acquired(self, stream: StreamClass, acquired: Acquisition) -> None:
        """Record the outcome of acquiring a lease."""
        self._observer.acquired(stream.name, acquired.outcome)
        for _ in range(acquired.expired):
            self._observer.released(stream.name, ReleaseCause.EXPIRY, None)

    async def undo(self, lease: Lease) -> None:
        """Undo an acquisition whose caller has gone; if that fails, the lease expires."""
        try:
            if await self._store.undo(lease):
                self._observer.released(lease.stream, ReleaseCause.UNWANTED, None)
        except StoreUnavailable as error:
            _log.warning("a lease could not be undone", extra={"error": str(error)})

    def renew(self, lease: Lease, opened_at_ms: int, reporter: Hashable) -> None:
        """Record a heartbeat of a stream."""
        self._catch_up()
        self._alive.pop(lease, None)
        self._alive[lease] = _Heartbeat(lease, opened_at_ms, reporter, self._now_s())
        self._forget_silent()
        self._tasks.begin(self._renew(lease, opened_at_ms))

    def end(self, lease: Lease) -> None:
        """Record the end of a stream."""
        self._alive.pop(lease, None)
        self._tasks.begin(self._release(lease))

    def lose(self, reporter: Hashable) -> None:
        """Record that a reporter disconnected: if its Envoy is gone, its streams are gone, too."""
        for lease in [lease for lease, beat in self._alive.items() if beat.reporter == reporter]:
            del self._alive[lease]
            self._tasks.begin(self._suspect(lease))

    async def close(self) -> None:
        """Wait for pending tasks while the store responds."""
        await self._tasks.finish(_RETRY_MAX_S)

    def _catch_up(self) -> None:
        """Report all open streams again to a store that may have lost them."""
        since_s = self._store.reconnected_at_s
        if since_s == self._caught_up_s:
            return
        self._caught_up_s = since_s
        self._forget_silent()
        for beat in self._alive.values():
            self._tasks.begin(self._renew(beat.lease, beat.opened_at_ms))

    def _forget_silent(self) -> None:
        """Forget streams whose end was reported to another sidecar, or to none."""
        silent_s = self._now_s() - SUSPECT_HEARTBEATS * self._heartbeat_s
        while self._alive and (beat := next(iter(self._alive.values()))).at_s < silent_s:
            del self._alive[beat.lease]

    async def _renew(self, lease: Lease, opened_at_ms: int) -> None:
        stream = self._class(lease.stream)
        if stream is None:  # the policy no longer counts these
            return
        try:
            renewal = await self._store.renew(lease, stream, opened_at_ms)
        except StoreUnavailable:  # the adapter counts it, and the next heartbeat follows soon
            return
        if renewal.outcome is RenewOutcome.RETAKEN:
            self._observer.retaken(lease.stream, exceeds=renewal.exceeds)

    async def _suspect(self, lease: Lease) -> None:
        try:
            await self._store.suspect(lease, SUSPECT_HEARTBEATS * self._heartbeat_s)
        except StoreUnavailable as error:
            _log.warning("a lease without a reporter keeps its full lifetime", extra={"error": str(error)})

    async def _release(self, lease: Lease) -> None:
        """Release a slot; while the store is unavailable, retry until the lease has expired."""
        stream = self._class(lease.stream)
        guard_s = _GUARD_S if stream is None else stream.ttl_s
        give_up_s, delay_s = self._now_s() + guard_s, _RETRY_MIN_S
        while self._now_s() < give_up_s:
            try:
                age_s = await self._store.release(lease, guard_s=guard_s)
            except StoreUnavailable:
                await asyncio.sleep(delay_s)
                delay_s = min(_RETRY_MAX_S, delay_s * 2)
            else:
                if age_s is not None:
                    self._observer.released(lease.stream, ReleaseCause.END, age_s)
                return

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()
