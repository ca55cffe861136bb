"""What the portal's use cases need from outside, as narrow protocols; those of checks and keys are `ports.py`."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeAlias

from authz.core.accounts import Account, Actor, AuditEvent
from authz.core.device import Approval, Grant, GrantStatus
from authz.core.outcomes import GrantEvent, LoginOutcome, SignupOutcome
from authz.core.owners import AuditLine, Contact, Owner
from authz.core.throttles import Attempt

NormaliseEmail: TypeAlias = Callable[[str], str]
"""Returns the one spelling of an e-mail address; raises `Refused` for what is none."""


class OwnerLedger(Protocol):
    """Where owners are kept and changed (Postgres). Every method raises `StoreUnavailable`."""

    async def add_owner(self, account: Account, owner: Owner, actor: Actor) -> None:
        """Keep a new account with its owner; raises `EmailTaken`."""
        ...

    async def owner_of_email(self, email: str) -> Owner | None:
        """Return whose address it is."""
        ...

    async def owner(self, account_id: str) -> Owner | None:
        """Return an account's owner; None for an account that an operator opened."""
        ...

    async def contact(self, account_id: str) -> Contact | None:
        """Return how any account's people can be reached, also one that an operator opened."""
        ...

    async def rehash(self, owner: Owner, password_hash: str) -> None:
        """Replace the hash of a password that stays the same, unless it has been changed meanwhile."""
        ...

    async def change_password(self, owner: Owner, password_hash: str, actor: Actor) -> Owner | None:
        """Begin a new generation with a new password; None where another change came first."""
        ...

    async def await_verification(self, account_id: str, digest: bytes, ends_at: datetime) -> None:
        """Remember by which code an address will be verified; an earlier one is void."""
        ...

    async def verify_email(self, digest: bytes, now: datetime, source_address: str) -> Owner | None:
        """Take a code, once, for proof of an address; None where no such code is awaited."""
        ...

    async def note(self, account_id: str, event: AuditEvent, actor: Actor) -> None:
        """Write a line into an account's audit trail about what changed no row."""
        ...

    async def audit_trail(self, account_id: str, before: int, lines_max: int) -> list[AuditLine]:
        """Return an account's latest audit lines with a number below `before`, newest first."""
        ...


class Passwords(Protocol):
    """Makes and checks password hashes."""

    @property
    def decoy(self) -> str:
        """Return a hash that costs what a new one costs, and is no password's."""
        ...

    async def hash(self, password: str) -> str:
        """Make the hash of a password."""
        ...

    async def verify(self, password_hash: str, password: str) -> bool:
        """Tell whether a hash is that of a password."""
        ...

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether a hash should be made anew while the password is at hand."""
        ...


class Counters(Protocol):
    """Counts attempts in windows of time (Redis). Every method raises `StoreUnavailable`."""

    async def take(self, kind: str, whom: str, attempts_max: int, window_s: int) -> bool:
        """Count an attempt; False where the window is full."""
        ...

    async def give_back(self, kind: str, whom: str) -> None:
        """Take an attempt back that has proven harmless."""
        ...


class Mail(Protocol):
    """Sends mail to owners, where that is set up."""

    @property
    def is_set_up(self) -> bool:
        """Tell whether a mail goes anywhere."""
        ...

    async def send(self, recipient: str, subject: str, text: str) -> None:
        """Send one mail; raises `StoreUnavailable`."""
        ...


class Grants(Protocol):
    """Keeps device grants for as long as they live (Redis). Every method raises `StoreUnavailable`."""

    async def start(self, user_code: str, digest: bytes, address: str, client: str, life_s: int) -> bool:
        """Begin a grant; False where its code is taken."""
        ...

    async def poll(self, user_code: str, digest: bytes) -> tuple[GrantStatus, Approval | None]:
        """Tell how a grant stands; its approval goes to the first who asks, and to nobody else until `settle`."""
        ...

    async def settle(self, user_code: str, *, is_over: bool) -> None:
        """End the grant whose key was handed out or will never be, or let the next poll try."""
        ...

    async def look(self, user_code: str) -> Grant | None:
        """Return a grant that waits for a decision."""
        ...

    async def decide(self, user_code: str, approval: Approval | None) -> bool:
        """Approve a grant, or refuse it with None; False where there is nothing to decide."""
        ...


class SessionStore(Protocol):
    """Keeps dashboard sessions for as long as they live (Redis). Every method raises `StoreUnavailable`."""

    async def open(self, digest: bytes, account_id: str, generation: int) -> None:
        """Begin a session, known by the digest of its secret."""
        ...

    async def use(self, digest: bytes) -> tuple[str, int] | None:
        """Return a session's account and password generation, and let it live on; None where it has ended."""
        ...

    async def end(self, digest: bytes) -> None:
        """End a session."""
        ...


class PortalObserver(Protocol):
    """Who is told what happens at the portal: its metrics. Never waits, never raises."""

    def logged_in(self, outcome: LoginOutcome) -> None:
        """Note what came of a password."""
        ...

    def signed_up(self, outcome: SignupOutcome) -> None:
        """Note what came of a wish for an account."""
        ...

    def grant_went_on(self, event: GrantEvent) -> None:
        """Note a step of a device grant."""
        ...

    def throttled(self, attempt: Attempt, by: str) -> None:
        """Note an attempt too many: `by` is "address" or "subject", for which it was counted."""
        ...

    def store_failed(self, store: str) -> None:
        """Note that a request met a store out of reach."""
        ...

    def answered(self, method: str, template: str, status: int, latency_s: float) -> None:
        """Note an answer, by its route's template and its HTTP status."""
        ...
