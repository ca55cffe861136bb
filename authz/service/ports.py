"""What the use cases need from outside, as narrow protocols.

Who fulfils them is decided in `authz/app.py`; the stores' drivers never show here.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol, TypeAlias

from authz.core.accounts import Account, Actor, ApiKey, AuditEvent, Replacement
from authz.core.check import Decision, KeyRecord, Lookup, RequestAttributes, Take
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit
from authz.core.streams import AcquireOutcome, Acquisition, Lease, OpenStream, ReleaseCause, Renewal, StreamClass

TakeReply: TypeAlias = Take | StoreUnavailable | None
"""A store's answer to a lookup: a take, None where it holds no record of the key, or the failure as a value."""

Taken: TypeAlias = Callable[[Sequence[int], Sequence[TakeReply]], None]
"""Told the answers to some of the lookups that were asked together: their places among them, and the answers."""

Decided: TypeAlias = tuple[int, RequestAttributes, Decision]
"""The number that its caller gave to a request, the request, and what was decided."""


class KeyProjection(Protocol):
    """The fast copy of key records, with their buckets (Redis)."""

    def epoch_of(self, digest: bytes) -> str:
        """Name the present life of the store where it holds this key.

        A restart, failover or restore begins another, and voids every record in it. Empty while that part of the store
        is out of reach.
        """
        ...

    def take(self, lookups: Sequence[Lookup], default: Limit, taken: Taken) -> None:
        """Look keys up and take their costs from their buckets, each in one atomic call.

        A lease for the stream that a lookup opens may be taken in the same call, where the key opens the route.

        Never waits and never raises: `taken` is called in later turns of the event loop, once or several times, with
        the answer to each lookup once. `default` is the limit of keys that have none of their own.
        """
        ...

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        """Write a record unless the store holds a newer revision of it; tell whether the store now agrees with it.

        With an `epoch`, write only if the store is still in that life. Raises `StoreUnavailable`.
        """
        ...


class KeyDirectory(Protocol):
    """The truth about keys (Postgres)."""

    def hold(self, digest: bytes) -> AbstractAsyncContextManager[KeyRecord]:
        """Read a key's record and hold it still: no change of the key or its account commits before the block ends.

        A key that does not exist gives a record in the state `UNKNOWN`. Raises `StoreUnavailable`.
        """
        ...


class LeaseStore(Protocol):
    """Who has how many streams open (Redis). Every coroutine raises `StoreUnavailable`."""

    @property
    def reconnected_at_s(self) -> float | None:
        """Tell, on the event loop's clock, since when the store is in reach again; None where it was never lost.

        What it knew before may be gone.
        """
        ...

    async def acquire(self, lease: Lease, stream: StreamClass, pending_s: float) -> Acquisition:
        """Take a slot, which is free again after `pending_s` seconds unless the stream gives a sign of life.

        Atomic over all sidecars. A lease that is there already is claimed once more, and stays one.
        """
        ...

    async def undo(self, lease: Lease) -> bool:
        """Take one claim back; tell whether that freed the slot: not where there is another claim or a sign of life."""
        ...

    async def renew(self, lease: Lease, stream: StreamClass, opened_at_ms: int) -> Renewal:
        """Note a sign of life: the lease lives another `ttl_s`, and is taken again where it had run out or was lost."""
        ...

    async def suspect(self, lease: Lease, within_s: float) -> bool:
        """Let a lease run out within some seconds; tell whether that shortened its life."""
        ...

    async def release(self, lease: Lease, *, guard_s: float) -> float | None:
        """Give a slot back, which nothing takes again for `guard_s` seconds; return the lease's age in s, if any."""
        ...

    async def streams(self, account_id: str, stream: str) -> list[OpenStream]:
        """Return an account's open streams of one class, oldest first."""
        ...


class LeaseObserver(Protocol):
    """Who is told what became of leases. Never waits, never raises; `stream` is a class of the policy."""

    def acquired(self, stream: str, outcome: AcquireOutcome) -> None:
        """Note what came of asking for a lease."""
        ...

    def retaken(self, stream: str, *, exceeds: bool) -> None:
        """Note that a lease was taken again after it ran out or was lost, and whether that went over a cap."""
        ...

    def released(self, stream: str, cause: ReleaseCause, age_s: float | None) -> None:
        """Note the end of a lease, with its age where that is known."""
        ...


class CheckObserver(Protocol):
    """Who is told what happened, once it is answered: metrics and the decision log. Never waits, never raises."""

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Note decisions on requests that came together, with the time they took: each once, on every path out."""
        ...

    def store_answered(self, store: str, latency_s: float) -> None:
        """Note how long a store took over one question of the checker's own: "postgres", loading a key."""
        ...

    def store_failed(self, store: str) -> None:
        """Note that a check met a store out of reach."""
        ...

    def degraded(self, store: str) -> None:
        """Note that a check was decided from memory while `store` was out of reach."""
        ...


class UseLedger(Protocol):
    """Where the last use of each key is kept (Postgres)."""

    async def note_uses(self, uses: Mapping[str, datetime]) -> None:
        """Note when keys were used, by id; what is known already and later stays. Raises `StoreUnavailable`."""
        ...


class KeyLedger(Protocol):
    """Where accounts and keys are kept and changed (Postgres). Every method raises `StoreUnavailable`.

    A change and its line in the audit log are one transaction. Keys whose change the projection must learn of are
    pending until they are settled.
    """

    async def add_account(self, account: Account, actor: Actor) -> None:
        """Keep a new account."""
        ...

    async def accounts(self) -> list[Account]:
        """Return every account, oldest first."""
        ...

    async def add_key(
        self,
        key: ApiKey,
        digest: bytes,
        active_max: int,
        actor: Actor,
        event: AuditEvent = AuditEvent.KEY_CREATED,
    ) -> None:
        """Keep a new key, if its account may have another; raises `Refused`. `event` says how it came about."""
        ...

    async def keys(self, account_id: str) -> list[ApiKey]:
        """Return an account's keys, oldest first."""
        ...

    async def key(self, key_id: str) -> ApiKey:
        """Return one key; raises `Refused` if there is none."""
        ...

    async def change_key(
        self, key_id: str, event: AuditEvent, actor: Actor, limit: Limit | None = None, *, own_only: bool = False
    ) -> None:
        """Revoke, disable, enable or limit a key.

        Raises `Refused` if there is none, if it is revoked and the change is another, or, with `own_only`, if somebody
        other than the actor has disabled it.
        """
        ...

    async def replace_key(
        self, key_id: str, replacement: Callable[[ApiKey], Replacement], active_max: int, actor: Actor
    ) -> tuple[ApiKey, ApiKey]:
        """Put a key into another's place, which ends when the replacement says; returns the old one and the new.

        `replacement` is asked while nobody can change the key. Raises `Refused` as it does, and if there is no such
        key, if it was replaced before, or if its account may not have another.
        """
        ...

    async def change_account(self, account_id: str, event: AuditEvent, actor: Actor) -> list[str]:
        """Suspend or reinstate an account; returns the ids of its keys. Raises `Refused` if there is no account."""
        ...

    async def pending(self, *, everything: bool = False) -> list[str]:
        """Return the ids of the keys that are pending, or with `everything` of all."""
        ...

    async def settle(self, key_id: str, put: Callable[[bytes, KeyRecord], Awaitable[bool]]) -> bool:
        """Hand a key's digest and present record to `put`; where that returns true, the key is pending no more.

        The key is held still meanwhile, as `KeyDirectory.hold` does. Returns what `put` returned.
        """
        ...
