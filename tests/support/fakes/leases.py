"""Leases in memory, written independently of the Lua scripts; the contract tests compare both."""

from dataclasses import dataclass

from authz.core.check import KeyState
from authz.core.errors import StoreUnavailable
from authz.core.streams import (
    AcquireOutcome,
    Acquisition,
    Lease,
    OpenStream,
    ReleaseCause,
    Renewal,
    RenewOutcome,
    StreamClass,
)

BEGIN_S = 1_700_000_000.0


@dataclass
class Held:
    """A known lease: it counts until `counts_until_s` and is deleted at `known_until_s`."""

    lease: Lease
    opened_s: float
    counts_until_s: float
    known_until_s: float
    seen_s: float | None = None
    claims: int = 1


class MemoryLeases:
    """Counts streams as Redis does, on a clock that tests move; `is_down` makes it fail."""

    def __init__(self) -> None:
        self.now_s = BEGIN_S
        self.reconnected_at_s: float | None = None
        self.is_down = False
        self.held: list[Held] = []
        self._ended_until_s: dict[tuple[str, str, str], float] = {}
        self._stopped: dict[tuple[str, str], bool] = {}

    async def acquire(self, lease: Lease, stream: StreamClass, pending_s: float) -> Acquisition:
        self._reach()
        if self._has_ended(lease):
            return Acquisition(AcquireOutcome.ENDED)
        if self._is_stopped(lease):
            return Acquisition(AcquireOutcome.STOPPED)
        mine = self._find(lease)
        expired = self._forget(lease, mine)
        of_key, of_account = self._open(lease, mine)
        if mine is not None and mine.counts_until_s > self.now_s:
            mine.claims += 1
            mine.counts_until_s = max(mine.counts_until_s, self.now_s + pending_s)
            mine.known_until_s = max(mine.known_until_s, self.now_s + pending_s)
            return Acquisition(AcquireOutcome.GRANTED, of_key + 1, of_account + 1, expired)
        if of_key >= stream.per_key:
            return Acquisition(AcquireOutcome.KEY_FULL, of_key, of_account, expired)
        if of_account >= stream.per_account:
            return Acquisition(AcquireOutcome.ACCOUNT_FULL, of_key, of_account, expired)
        if mine is not None:
            self.held.remove(mine)
        self.held.append(Held(lease, self.now_s, self.now_s + pending_s, self.now_s + pending_s))
        return Acquisition(AcquireOutcome.GRANTED, of_key + 1, of_account + 1, expired)

    async def undo(self, lease: Lease) -> bool:
        self._reach()
        mine = self._find(lease)
        if mine is None or mine.seen_s is not None:
            return False
        mine.claims -= 1
        if mine.claims <= 0:
            self.held.remove(mine)
        return mine.claims <= 0

    async def renew(self, lease: Lease, stream: StreamClass, opened_at_ms: int) -> Renewal:
        self._reach()
        if self._has_ended(lease):
            return Renewal(RenewOutcome.ENDED)
        mine = self._find(lease)
        counted = mine is not None and mine.counts_until_s > self.now_s
        if mine is None:
            mine = Held(lease, opened_at_ms / 1000, self.now_s, self.now_s)
            self.held.append(mine)
        mine.seen_s, mine.known_until_s = self.now_s, self.now_s + stream.ttl_s
        if self._is_stopped(lease):
            return Renewal(RenewOutcome.STOPPED)
        mine.counts_until_s = self.now_s + stream.ttl_s
        if counted:
            return Renewal(RenewOutcome.KEPT)
        self._forget(lease, mine)
        of_key, of_account = self._open(lease, mine)
        return Renewal(RenewOutcome.RETAKEN, of_key >= stream.per_key or of_account >= stream.per_account)

    async def suspect(self, lease: Lease, within_s: float) -> bool:
        self._reach()
        mine, until_s = self._find(lease), self.now_s + within_s
        if mine is None or mine.known_until_s <= until_s:
            return False
        mine.counts_until_s, mine.known_until_s = min(mine.counts_until_s, until_s), until_s
        return True

    async def release(self, lease: Lease, *, guard_s: float) -> float | None:
        self._reach()
        if guard_s:
            self._ended_until_s[_id(lease)] = self.now_s + guard_s
        mine = self._find(lease)
        if mine is None:
            return None
        self.held.remove(mine)
        return self.now_s - mine.opened_s

    async def streams(self, account_id: str, stream: str) -> list[OpenStream]:
        self._reach()
        self._forget(Lease("", account_id, "", stream), None)
        return [
            OpenStream(
                it.lease,
                int(it.opened_s * 1000),
                int(it.counts_until_s * 1000),
                int((it.seen_s or 0) * 1000),
                self._is_stopped(it.lease),
            )
            for it in sorted(self.held, key=lambda it: it.opened_s)
            if (it.lease.account_id, it.lease.stream) == (account_id, stream)
        ]

    async def stop(self, account_id: str, key_id: str, state: KeyState) -> None:
        """Revoke, disable or enable a key, as its streams see it."""
        self._stopped[account_id, key_id] = state is not KeyState.ACTIVE

    async def wait(self, seconds: float, *_leases: Lease) -> None:
        """Advance the clock."""
        self.now_s += seconds

    async def lose_everything(self) -> None:
        """Delete everything, like the restart of a Redis without persistence."""
        self.held.clear()
        self._ended_until_s.clear()
        self.reconnected_at_s = self.now_s

    def _reach(self) -> None:
        if self.is_down:
            raise StoreUnavailable("redis", "not connected")

    def _find(self, lease: Lease) -> Held | None:
        return next((it for it in self.held if _id(it.lease) == _id(lease)), None)

    def _forget(self, lease: Lease, aside: Held | None) -> int:
        before = len(self.held)
        self.held = [
            it for it in self.held if it is aside or not _is_beside(it, lease) or it.known_until_s > self.now_s
        ]
        return before - len(self.held)

    def _open(self, lease: Lease, aside: Held | None) -> tuple[int, int]:
        beside = [
            it for it in self.held if it is not aside and _is_beside(it, lease) and it.counts_until_s > self.now_s
        ]
        return sum(it.lease.key_id == lease.key_id for it in beside), len(beside)

    def _has_ended(self, lease: Lease) -> bool:
        return self._ended_until_s.get(_id(lease), 0) > self.now_s

    def _is_stopped(self, lease: Lease) -> bool:
        return self._stopped.get((lease.account_id, lease.key_id), False)


def _id(lease: Lease) -> tuple[str, str, str]:
    return lease.account_id, lease.stream, lease.lease_id


def _is_beside(it: Held, lease: Lease) -> bool:
    return (it.lease.account_id, it.lease.stream) == (lease.account_id, lease.stream)


class LeaseCounters:
    """Records the events of leases."""

    def __init__(self) -> None:
        self.acquisitions: list[AcquireOutcome] = []
        self.retakes: list[bool] = []
        self.releases: list[ReleaseCause] = []

    def acquired(self, stream: str, outcome: AcquireOutcome) -> None:
        assert stream
        self.acquisitions.append(outcome)

    def retaken(self, stream: str, *, exceeds: bool) -> None:
        assert stream
        self.retakes.append(exceeds)

    def released(self, stream: str, cause: ReleaseCause, age_s: float | None) -> None:
        assert stream
        assert (age_s is not None) is (cause is ReleaseCause.END)
        self.releases.append(cause)
