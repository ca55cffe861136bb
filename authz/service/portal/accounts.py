"""The use cases of an owner's account: sign up, change the password, read the audit trail.

`login.py` and `sessions.py` authenticate the owner; keys are `service/keys/admin.py`.
"""

from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from authz.core.accounts import Account, Actor, AuditEvent
from authz.core.errors import EmailTaken, Refused, Throttled, WrongCredentials
from authz.core.outcomes import SignupOutcome
from authz.core.owners import (
    PASSWORD_CHARS_MAX,
    AuditLine,
    Contact,
    Owner,
    check_new_password,
    is_bounded_password,
    normalised_password,
)
from authz.core.throttles import Attempt
from authz.service.portal.ports import NormaliseEmail, OwnerLedger, Passwords, PortalObserver
from authz.service.portal.throttling import Gate

TRAIL_LINES_MAX = 100
"""The most lines of an audit trail that one call returns."""
TRAIL_END = 2**63 - 1
"""A number above every line's."""

_ID_BYTES = 10
_WRONG = "the current password is wrong"
_SIGNUP_REFUSALS: dict[type[Refused], SignupOutcome] = {
    EmailTaken: SignupOutcome.EMAIL_TAKEN,
    Throttled: SignupOutcome.THROTTLED,
}


@dataclass(frozen=True, slots=True)
class PasswordRules:
    """The rules for a new password; `breached` holds known passwords, case-folded."""

    chars_min: int
    breached: frozenset[str] = frozenset()


class Accounts:
    """The use cases of owners. `entropy(n)` returns n random bytes."""

    def __init__(
        self,
        ledger: OwnerLedger,
        passwords: Passwords,
        gate: Gate,
        observer: PortalObserver,
        *,
        rules: PasswordRules,
        normalise_email: NormaliseEmail,
        entropy: Callable[[int], bytes],
        now: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._passwords = passwords
        self._gate = gate
        self._observer = observer
        self.rules = rules
        self.normalise_email = normalise_email
        self._entropy = entropy
        self._now = now

    async def sign_up(self, email: str, password: str, address: str) -> Owner:
        """Create an account; raises `Refused` and its subclasses."""
        try:
            owner = await self._sign_up(email, password, address)
        except Refused as error:
            self._observer.signed_up(_SIGNUP_REFUSALS.get(type(error), SignupOutcome.REFUSED))
            raise
        self._observer.signed_up(SignupOutcome.OPENED)
        return owner

    async def change_password(self, owner: Owner, current: str, new: str, address: str) -> Owner:
        """Change the password, which ends all earlier sessions; raises `Refused` and its subclasses."""
        check_bounds(new, self.rules)
        await self.prove(owner, current, address)
        password_hash = await self.new_hash(new, owner.email)
        actor = Actor(f"owner:{owner.account_id}", address)
        changed = await self._ledger.change_password(owner, password_hash, actor)
        if changed is None:
            raise Refused("the password was changed elsewhere meanwhile")
        return changed

    async def prove(self, owner: Owner, password: str, address: str) -> None:
        """Check the password of an owner in a session; raises `WrongCredentials` and `Throttled`."""
        if not is_bounded_password(password):
            raise WrongCredentials(_WRONG)
        # Counted by the account, whose session this is, and not by the e-mail address that strangers try.
        subject = f"session:{owner.account_id}"
        await self._gate.admit(Attempt.LOGIN, address=address, subject=subject)
        try:
            is_right = await self._passwords.verify(owner.password_hash, normalised_password(password))
        except Refused:
            is_right = False
        if not is_right:
            raise WrongCredentials(_WRONG)
        await self._gate.forgive(Attempt.LOGIN, subject=subject)

    async def new_hash(self, password: str, email: str) -> str:
        """Return the hash of a new password; raises `Refused` for one that must not be chosen."""
        return await self._passwords.hash(checked_password(password, email, self.rules))

    async def note(self, account_id: str, event: AuditEvent, address: str) -> None:
        """Write an owner's action into the audit trail."""
        await self._ledger.note(account_id, event, Actor(f"owner:{account_id}", address))

    async def audit_trail(self, account_id: str, before: int = TRAIL_END) -> list[AuditLine]:
        """Return at most `TRAIL_LINES_MAX` audit lines of an account before line `before`, newest first."""
        return await self._ledger.audit_trail(account_id, before, TRAIL_LINES_MAX)

    async def contact(self, account_id: str) -> Contact:
        """Return the contact of an account; raises `Refused` if there is no such account."""
        contact = await self._ledger.contact(account_id)
        if contact is None:
            raise Refused(f"there is no account {account_id}")
        return contact

    async def _sign_up(self, email: str, password: str, address: str) -> Owner:
        # The order is: limit the bytes, count the attempt, then normalise, because normalising costs more.
        check_bounds(password, self.rules)
        await self._gate.admit(Attempt.SIGNUP, address=address)
        try:
            email = self.normalise_email(email)
            password = checked_password(password, email, self.rules)
        except Refused:
            # A person who tries weak passwords must not be locked out; the work until here is bounded.
            await self._gate.forgive_address(Attempt.SIGNUP, address=address)
            raise
        account_id = f"acct_{b32encode(self._entropy(_ID_BYTES)).decode().lower()}"
        account = Account(account_id, email, self._now(), email)
        owner = Owner(account_id, email, await self._passwords.hash(password))
        await self._ledger.add_owner(account, owner, Actor(f"owner:{account_id}", address))
        return owner


def check_bounds(password: str, rules: PasswordRules) -> None:
    """Raise `Refused` for a new password that is too long to be worked on."""
    if not is_bounded_password(password):
        raise Refused(f"a password is {rules.chars_min} to {PASSWORD_CHARS_MAX} characters")


def checked_password(password: str, email: str, rules: PasswordRules) -> str:
    """Return the normal form of a new password; raises `Refused` for one that must not be chosen."""
    normalised = normalised_password(password)
    check_new_password(normalised, email, chars_min=rules.chars_min, breached=rules.breached)
    return normalised
