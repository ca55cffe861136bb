"""The ports of checks and keys: what the use cases need from outside, as narrow protocols.

`authz/sidecar.py` and `authz/portal_app.py` choose the implementations; no store driver appears here.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol, TypeAlias

from authz.core.accounts import Account, Actor, ApiKey, AuditEvent, Replacement
from authz.core.check import AccountRecord, Decision, Held, KeyRecord, Lookup, RequestAttributes, Take
from authz.core.errors import StoreUnavailable
from authz.core.limits import KeyLimits, Limit
from authz.core.streams import AcquireOutcome, Acquisition, Lease, OpenStream, ReleaseCause, Renewal, StreamClass
from authz.core.value import Value

TakeReply: TypeAlias = Take | StoreUnavailable | None
"""A store's reply to a lookup: a take, None if it holds no record of the key, or the failure as a value."""

Taken: TypeAlias = Callable[[Sequence[int], Sequence[TakeReply]], None]
"""Receives replies to some lookups of one call: the indices of these lookups, and their replies."""

Decided: TypeAlias = tuple[int, RequestAttributes, Decision]
"""The caller's number of a request, the request, and the decision."""


class KeyProjection(Protocol):
    """The fast copy of key and account records, with their buckets (Redis)."""

    def epoch_of(self, digest: bytes) -> str:
        """Return the epoch of the store that holds this key.

        A restart, failover or restore starts a new epoch and makes every record invalid. Empty while that part of the
        store is unavailable.
        """
        ...

    def take(
        self,
        lookups: Sequence[Lookup],
        default: Limit,
        taken: Taken,
        *,
        account: Limit | None = None,
        limits: KeyLimits | None = None,
    ) -> None:
        """Look up keys and their accounts, and charge all their buckets or none, each lookup in one atomic call.

        The same call may acquire a lease for the stream that a lookup opens, if the key is allowed on the route.

        Never waits and never raises: `taken` is called in later turns of the event loop, once or several times, with
        the reply to each lookup once. `default` is the limit of keys that have none of their own, `account` that of
        accounts whose keys have none; without it accounts have no bucket. `limits` are those of further buckets.
        """
        ...

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        """Write a record unless the store holds a newer revision of it; tell whether the store now agrees with it.

        With an `epoch`, write only if the store is still in that epoch. Without one, raise also if the store may have
        been replaced during the write. Raises `StoreUnavailable`.
        """
        ...

    async def put_account(self, record: AccountRecord, *, epoch: str | None = None) -> bool:
        """Write an account's record, as `put` does for a key's."""
        ...

    async def settled(self) -> None:
        """Return when no process may use an epoch of the store that ended before this call; never raises.

        At once, except in the first seconds of an epoch. Records written without an `epoch` before then apply to
        every check that starts later.
        """
        ...


class KeyDirectory(Protocol):
    """The authoritative records of keys (Postgres)."""

    def hold(self, next_digests: Callable[[], Sequence[bytes]]) -> AbstractAsyncContextManager[Mapping[bytes, Held]]:
        """Read records of keys and accounts and lock them: none of them changes before the block ends.

        `next_digests` is called at most once, when the directory is ready to read. A key that does not exist has a
        record in the state `UNKNOWN`. A key that does not exist or has ended comes without its account. A key that is
        being changed has no record here: read it again a moment later. Raises `StoreUnavailable`, also if the server
        that responds may not know every key.
        """
        ...


class Changed(Value):
    """A change of a key or an account: whether the account is suspended now, and the digest and record of the key."""

    account_id: str
    is_suspended: bool
    key: tuple[bytes, KeyRecord] | None = None


class Changes(Protocol):
    """The changes of keys and accounts as they are committed (Postgres)."""

    async def changed(self) -> list[Changed]:
        """Return the changes since the previous call, and none at the first. Raises `StoreUnavailable`.

        The second call may also return those of the half minute before the first.
        """
        ...


class LeaseStore(Protocol):
    """The leases of open streams (Redis). Every coroutine raises `StoreUnavailable`."""

    @property
    def reconnected_at_s(self) -> float | None:
        """The time when the store became available again, on the event loop's clock; None if it was never unavailable.

        Leases acquired earlier may be lost.
        """
        ...

    async def acquire(self, lease: Lease, stream: StreamClass, pending_s: float) -> Acquisition:
        """Acquire a slot, which expires after `pending_s` seconds unless a heartbeat of the stream arrives.

        Atomic over all sidecars. Acquiring an existing lease adds a claim to it and takes no second slot.
        """
        ...

    async def undo(self, lease: Lease) -> bool:
        """Remove one claim; tell whether that freed the slot: another claim or a heartbeat keeps it."""
        ...

    async def renew(self, lease: Lease, stream: StreamClass, opened_at_ms: int) -> Renewal:
        """Renew a lease for another `ttl_s`; acquire it again if it had expired or was lost."""
        ...

    async def suspect(self, lease: Lease, within_s: float) -> bool:
        """Let a lease expire within `within_s` seconds; tell whether that shortened its life."""
        ...

    async def release(self, lease: Lease, *, guard_s: float) -> float | None:
        """Release a slot; the lease cannot be acquired for `guard_s` seconds. Return its age in seconds, if any."""
        ...

    async def streams(self, account_id: str, stream: str) -> list[OpenStream]:
        """Return an account's open streams of one class, oldest first."""
        ...


class LeaseObserver(Protocol):
    """Receives the events of leases. Never waits, never raises; `stream` is a class of the policy."""

    def acquired(self, stream: str, outcome: AcquireOutcome) -> None:
        """Record the outcome of acquiring a lease."""
        ...

    def retaken(self, stream: str, *, exceeds: bool) -> None:
        """Record that a lease was reacquired after it expired or was lost, and whether that exceeded a cap."""
        ...

    def released(self, stream: str, cause: ReleaseCause, age_s: float | None) -> None:
        """Record the end of a lease, with its age if known."""
        ...


class CheckObserver(Protocol):
    """Receives the events of answered checks: metrics and the decision log. Never waits, never raises."""

    def decided(self, decided: Sequence[Decided], latency_s: float) -> None:
        """Record decisions on requests that arrived together, and their latency: every decision exactly once."""
        ...

    def store_answered(self, store: str, latency_s: float) -> None:
        """Record the latency of one query of the checker: "postgres", loading a key."""
        ...

    def store_failed(self, store: str) -> None:
        """Record that a check found a store unavailable."""
        ...

    def degraded(self, store: str) -> None:
        """Record that a check was decided from memory while `store` was unavailable."""
        ...


class UseLedger(Protocol):
    """The last use of each key (Postgres)."""

    async def note_uses(self, uses: Mapping[str, datetime]) -> None:
        """Store the times of use by key id, unless a later one is stored. Raises `StoreUnavailable`."""
        ...


class KeyLedger(Protocol):
    """Accounts and keys, and their changes (Postgres). Every method raises `StoreUnavailable`.

    A change and its line in the audit log are one transaction. A key whose change is not yet in the projection is
    pending until it is settled.
    """

    async def add_account(self, account: Account, actor: Actor) -> None:
        """Store a new account."""
        ...

    async def accounts(self, after: str, rows_max: int) -> list[Account]:
        """Return accounts, oldest first, from the one that follows the account `after` on; "" for the first."""
        ...

    async def account(self, account_id: str) -> Account:
        """Return one account; raises `Refused` if there is none."""
        ...

    async def add_key(
        self, key: ApiKey, digest: bytes, active_max: int, actor: Actor, event: AuditEvent = AuditEvent.KEY_CREATED
    ) -> None:
        """Store a new key, if its account may have another; raises `Refused`. `event` says how it was created."""
        ...

    async def keys(self, account_id: str, after: str, rows_max: int) -> list[ApiKey]:
        """Return an account's keys, oldest first, from the one that follows the key `after` on; "" for the first."""
        ...

    async def live_keys(self, account_id: str, rows_max: int) -> list[ApiKey]:
        """Return the newest keys of an account that are neither revoked nor expired, newest first."""
        ...

    async def latest_keys(
        self, account_id: str, before: str, rows_max: int, *, ended_only: bool = False
    ) -> list[ApiKey]:
        """Return an account's keys, or those that ended, newest first, from the one before the key `before`, or all."""
        ...

    async def key_names(self, account_id: str, key_ids: Collection[str]) -> dict[str, str]:
        """Return the names of those of the keys that the account has, by id."""
        ...

    async def plans(self) -> dict[str, int]:
        """Return how many live keys have each plan."""
        ...

    async def find_keys(self, digest: bytes, hint: str) -> list[ApiKey]:
        """Return the keys with a digest or with a hint, oldest first; an empty digest or hint matches none."""
        ...

    async def key(self, key_id: str) -> ApiKey:
        """Return one key; raises `Refused` if there is none."""
        ...

    async def change_key(
        self, key_id: str, event: AuditEvent, actor: Actor, to: Limit | str | None = None, *, own_only: bool = False
    ) -> str:
        """Change a key, `to` a limit or a plan; returns the id of its account if that record changes too, else "".

        Raises `Refused` if there is none, if it is revoked and the change is another, or, with `own_only`, if somebody
        other than the actor has disabled it.
        """
        ...

    async def replace_key(
        self, key_id: str, replacement: Callable[[ApiKey], Replacement], active_max: int, actor: Actor
    ) -> tuple[ApiKey, ApiKey]:
        """Replace a key, whose end the replacement defines; return the old key and the new one.

        `replacement` is called while the key is locked. Raises `Refused` as it does, and if there is no such
        key, if it was replaced before, or if its account may not have another.
        """
        ...

    async def change_account(self, account_id: str, event: AuditEvent, actor: Actor) -> None:
        """Suspend or reinstate an account. Raises `Refused` if there is no account."""
        ...

    async def pending(self, *, everything: bool = False, after: str = "", rows_max: int = 1000) -> list[str]:
        """Return ids of keys that are pending, the longest first; with `everything` of all keys after one, by id."""
        ...

    async def pending_accounts(self, *, everything: bool = False, after: str = "", rows_max: int = 1000) -> list[str]:
        """Return ids of accounts, as `pending` does of keys."""
        ...

    async def settle(self, key_id: str, put: Callable[[bytes, KeyRecord], Awaitable[bool]]) -> bool:
        """Call `put` with a key's digest and current record; if it returns true, the key is no longer pending.

        The key is locked meanwhile, as in `KeyDirectory.hold`. Returns the result of `put`.
        """
        ...

    async def settle_account(self, account_id: str, put: Callable[[AccountRecord], Awaitable[bool]]) -> bool:
        """Pass an account's present record to `put`, as `settle` does for a key."""
        ...

    async def delete_ended(self, before: datetime, rows_max: int) -> int:
        """Delete keys that ended before a time, at most some; returns how many. Their audit lines stay."""
        ...
