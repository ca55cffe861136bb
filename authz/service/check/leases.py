"""Leases of open streams through their life: taken by a check, renewed by signs of life, given back at the end.

What Envoy's signs look like is `edge/access_log.py`, where leases are counted is behind `ports.LeaseStore`. Renewals
and releases are tasks that nobody waits for; they begin in the order in which the signs arrived.
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
"""How many a lease may wait for its stream's first; Envoy's timer begins with the request, before the check."""
SUSPECT_HEARTBEATS = 2.5
"""How many a lease may wait once its reporter is gone: more than one, or a living stream would lose its slot while its
Envoy connects anew, and one on top that may have been lost with the old connection."""
SETTLE_HEARTBEATS = 1.5
"""How many no stream may open after a store was lost and found again: by then every stream that lives has been told of,
by a sidecar that may have found the store half a second later."""

_TASKS_MAX = 20_000
_RETRY_MIN_S = 0.05
_RETRY_MAX_S = 1.0
_GUARD_S = 60

_log = logging.getLogger("authz.streams")


@dataclass(frozen=True, slots=True)
class _Sign:
    lease: Lease
    opened_at_ms: int
    reporter: Hashable
    at_s: float


class Leases:
    """The leases that this sidecar hears of, whoever took them.

    `stream_class` finds a class of the present policy by name. `heartbeat_s` is how often Envoy reports a stream that
    lives. A `reporter` is whatever tells signs of life apart by where they came from: one connection's call.
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
        # The latest sign of each stream, the oldest sign first.
        self._alive: dict[Lease, _Sign] = {}
        self._caught_up_s: float | None = None
        self._tasks = Tasks(_TASKS_MAX)

    def alive(self) -> Counter[str]:
        """Count the streams that gave a sign of life lately, by class."""
        self._forget_silent()
        return Counter(lease.stream for lease in self._alive)

    def opening(self, request_id: str, stream: StreamClass) -> Opening | None:
        """Say what to ask for, for a stream that is about to open.

        None while nothing may open: a store that may have lost leases is told anew of what lives.
        """
        since_s = self._store.reconnected_at_s
        if since_s is not None and self._now_s() < since_s + SETTLE_HEARTBEATS * self._heartbeat_s:
            return None
        return Opening(request_id, stream, min(stream.ttl_s, PENDING_HEARTBEATS * self._heartbeat_s))

    async def acquire(self, lease: Lease, stream: StreamClass) -> Acquisition:
        """Take a lease for a stream that is about to open; raises `StoreUnavailable`, also while nothing may open."""
        opening = self.opening(lease.lease_id, stream)
        if opening is None:
            raise StoreUnavailable("redis", "open streams are being counted anew")
        acquired = await self._store.acquire(lease, stream, opening.pending_s)
        self.acquired(stream, acquired)
        return acquired

    def acquired(self, stream: StreamClass, acquired: Acquisition) -> None:
        """Note what came of asking for a lease."""
        self._observer.acquired(stream.name, acquired.outcome)
        for _ in range(acquired.expired):
            self._observer.released(stream.name, ReleaseCause.EXPIRY, None)

    async def undo(self, lease: Lease) -> None:
        """Take back what a check acquired that nobody waited for; if that fails, the lease runs out by itself."""
        try:
            if await self._store.undo(lease):
                self._observer.released(lease.stream, ReleaseCause.UNWANTED, None)
        except StoreUnavailable as error:
            _log.warning("a lease could not be undone", extra={"error": str(error)})

    def renew(self, lease: Lease, opened_at_ms: int, reporter: Hashable) -> None:
        """Note a stream's sign of life."""
        self._catch_up()
        self._alive.pop(lease, None)
        self._alive[lease] = _Sign(lease, opened_at_ms, reporter, self._now_s())
        self._forget_silent()
        self._tasks.begin(self._renew(lease, opened_at_ms))

    def end(self, lease: Lease) -> None:
        """Note a stream's end."""
        self._alive.pop(lease, None)
        self._tasks.begin(self._release(lease))

    def lose(self, reporter: Hashable) -> None:
        """Note that a reporter broke off: if its Envoy is gone, so are the streams that it reported last."""
        for lease in [lease for lease, sign in self._alive.items() if sign.reporter == reporter]:
            del self._alive[lease]
            self._tasks.begin(self._suspect(lease))

    async def close(self) -> None:
        """Let what is under way end, as far as the store answers."""
        await self._tasks.finish(_RETRY_MAX_S)

    def _catch_up(self) -> None:
        """Tell a store that may have lost them of all streams that live."""
        since_s = self._store.reconnected_at_s
        if since_s == self._caught_up_s:
            return
        self._caught_up_s = since_s
        self._forget_silent()
        for sign in self._alive.values():
            self._tasks.begin(self._renew(sign.lease, sign.opened_at_ms))

    def _forget_silent(self) -> None:
        """Forget streams whose end was told to another sidecar, or to none."""
        silent_s = self._now_s() - SUSPECT_HEARTBEATS * self._heartbeat_s
        while self._alive and (sign := next(iter(self._alive.values()))).at_s < silent_s:
            del self._alive[sign.lease]

    async def _renew(self, lease: Lease, opened_at_ms: int) -> None:
        stream = self._class(lease.stream)
        if stream is None:  # the policy no longer counts these
            return
        try:
            renewal = await self._store.renew(lease, stream, opened_at_ms)
        except StoreUnavailable:  # which is counted where it happens, and the next sign is not far
            return
        if renewal.outcome is RenewOutcome.RETAKEN:
            self._observer.retaken(lease.stream, exceeds=renewal.exceeds)

    async def _suspect(self, lease: Lease) -> None:
        try:
            await self._store.suspect(lease, SUSPECT_HEARTBEATS * self._heartbeat_s)
        except StoreUnavailable as error:
            _log.warning("a lease without a reporter keeps its whole life", extra={"error": str(error)})

    async def _release(self, lease: Lease) -> None:
        """Give a slot back; while the store is away, again and again, until the lease has run out by itself."""
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
