"""The ports of the portal's use cases, as narrow protocols; those of checks and keys are `service/ports.py`."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeAlias

from authz.core.accounts import Account, Actor, AuditEvent
from authz.core.device import Approval, Grant, GrantStatus
from authz.core.outcomes import GrantEvent, LoginOutcome, SignupOutcome
from authz.core.owners import AuditLine, Contact, EmailChange, OpenSession, Owner
from authz.core.throttles import Attempt

NormaliseEmail: TypeAlias = Callable[[str], str]
"""Returns the normal form of an e-mail address; raises `Refused` for an invalid one."""


class OwnerLedger(Protocol):
    """Account owners and their changes (Postgres). Every method raises `StoreUnavailable`."""

    async def add_owner(self, account: Account, owner: Owner, actor: Actor) -> None:
        """Store a new account with its owner; raises `EmailTaken`."""
        ...

    async def owner_of_email(self, email: str) -> Owner | None:
        """Return the owner of an address."""
        ...

    async def owner(self, account_id: str) -> Owner | None:
        """Return an account's owner; None for an account that an operator created."""
        ...

    async def contact(self, account_id: str) -> Contact | None:
        """Return the contact of any account, also of one that an operator created."""
        ...

    async def rehash(self, owner: Owner, password_hash: str) -> None:
        """Replace the hash of an unchanged password, unless the password was changed meanwhile."""
        ...

    async def change_password(self, owner: Owner, password_hash: str, actor: Actor) -> Owner | None:
        """Store a new password and start a new generation; return None if another change came first."""
        ...

    async def await_verification(self, account_id: str, digest: bytes, ends_at: datetime) -> None:
        """Store the code that verifies an address; an earlier code becomes invalid."""
        ...

    async def owner_to_verify(self, digest: bytes, now: datetime) -> Owner | None:
        """Return the owner whose address a code verifies."""
        ...

    async def verify_email(self, digest: bytes, now: datetime, source_address: str) -> Owner | None:
        """Accept a code once and mark its address verified; return None for an unknown code."""
        ...

    async def note(self, account_id: str, event: AuditEvent, actor: Actor) -> None:
        """Write a line into an account's audit trail for an event without another change."""
        ...

    async def audit_trail(self, account_id: str, before: int, lines_max: int) -> list[AuditLine]:
        """Return an account's latest audit lines with a number below `before`, newest first."""
        ...


class LinkLedger(Protocol):
    """Mailed links for passwords and e-mail addresses (Postgres). Every method raises `StoreUnavailable`."""

    async def add_reset(self, email: str, digest: bytes, ends_at: datetime, source_address: str) -> bool:
        """Store the code of a reset link for the owner of an address; return False if there is none."""
        ...

    async def owner_of_reset(self, digest: bytes, now: datetime) -> Owner | None:
        """Return the owner whose password a code may reset."""
        ...

    async def reset_password(
        self, digest: bytes, password_hash: str, now: datetime, source_address: str
    ) -> Owner | None:
        """Accept a code once: store a new password and start a new generation. Every link of the owner is invalid."""
        ...

    async def start_email_change(
        self, change: EmailChange, old_digest: bytes, new_digest: bytes, ends_at: datetime, actor: Actor
    ) -> None:
        """Store a change with the codes for both addresses; it replaces an earlier change."""
        ...

    async def email_change(self, digest: bytes, now: datetime) -> EmailChange | None:
        """Return the change that a code confirms."""
        ...

    async def confirm_email_change(self, digest: bytes, now: datetime, source_address: str) -> EmailChange | None:
        """Confirm a change for one address; after both it takes effect, and every link of the owner is invalid.

        Return None for an unknown code; raises `EmailTaken`.
        """
        ...

    async def delete_expired(self, now: datetime) -> None:
        """Delete links that have expired."""
        ...


class Passwords(Protocol):
    """Makes and checks password hashes."""

    @property
    def decoy(self) -> str:
        """Return a hash that costs as much as a new one and matches no password."""
        ...

    async def hash(self, password: str) -> str:
        """Make the hash of a password."""
        ...

    async def verify(self, password_hash: str, password: str) -> bool:
        """Tell whether a hash matches a password."""
        ...

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether a hash should be replaced now that the password is known."""
        ...


class Counters(Protocol):
    """Counts attempts in windows of time (Redis). Every method raises `StoreUnavailable`."""

    async def take(self, kind: str, whom: str, attempts_max: int, window_s: int) -> bool:
        """Count an attempt; return False if the window is full."""
        ...

    async def refund(self, kind: str, whom: str) -> None:
        """Remove one counted attempt that proved harmless."""
        ...


class Mail(Protocol):
    """Sends mail to owners, if that is configured."""

    @property
    def is_set_up(self) -> bool:
        """Tell whether mail is configured."""
        ...

    async def send(self, recipient: str, subject: str, text: str) -> None:
        """Send one mail; raises `StoreUnavailable`."""
        ...


class Grants(Protocol):
    """Keeps device grants for as long as they live (Redis). Every method raises `StoreUnavailable`."""

    async def start(
        self,
        user_code: str,
        digest: bytes,
        address: str,
        client: str,
        life_s: int,
        scopes: frozenset[str] = frozenset(),
    ) -> bool:
        """Start a grant; return False if its code is in use."""
        ...

    async def poll(self, user_code: str, digest: bytes) -> tuple[GrantStatus, Approval | None]:
        """Return the state of a grant; only the first caller receives its approval, until `settle`."""
        ...

    async def settle(self, user_code: str, *, is_over: bool) -> None:
        """End a grant whose key was handed out or never will be; otherwise let the next poll try again."""
        ...

    async def look(self, user_code: str) -> Grant | None:
        """Return a grant that is not decided yet."""
        ...

    async def decide(self, user_code: str, approval: Approval | None) -> bool:
        """Approve a grant, or refuse it with None; return False if no grant is undecided."""
        ...


class SessionStore(Protocol):
    """Keeps dashboard sessions for as long as they live (Redis). Every method raises `StoreUnavailable`."""

    async def open(
        self, digest: bytes, account_id: str, generation: int, *, address: str = "", browser: str = ""
    ) -> None:
        """Start a session, identified by the digest of its secret."""
        ...

    async def use(self, digest: bytes) -> tuple[str, int] | None:
        """Return a session's account and password generation, and extend it; return None if it has ended."""
        ...

    async def end(self, digest: bytes) -> None:
        """End a session."""
        ...

    async def listed(self, account_id: str) -> list[OpenSession]:
        """Return the open sessions of an account, newest first; the id of one is its digest in URL-safe Base64."""
        ...

    async def end_listed(self, account_id: str, session_id: str) -> bool:
        """End a session of an account; return False if the account has no such session."""
        ...


class RequestTracer(Protocol):
    """Receives each request of the portal that has a trace context. Never waits, never raises."""

    def served(self, traceparent: str, request_id: str, method: str, template: str, status: int, took_s: float) -> None:
        """Record a response by its route template and HTTP status, if the caller records its trace."""
        ...


class PortalObserver(Protocol):
    """Receives the events of the portal: its metrics. Never waits, never raises."""

    def logged_in(self, outcome: LoginOutcome) -> None:
        """Record the outcome of a login with a password."""
        ...

    def signed_up(self, outcome: SignupOutcome) -> None:
        """Record the outcome of a signup."""
        ...

    def grant_went_on(self, event: GrantEvent) -> None:
        """Record a step of a device grant."""
        ...

    def throttled(self, attempt: Attempt, by: str) -> None:
        """Record an attempt beyond a limit; `by` is "address" or "subject"."""
        ...

    def store_failed(self, store: str) -> None:
        """Record that a request found a store unavailable."""
        ...

    def answered(self, method: str, template: str, status: int, latency_s: float) -> None:
        """Record a response by its route template and HTTP status."""
        ...
