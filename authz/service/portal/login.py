"""Login with a password: the same answer and the same time for an unknown address and a wrong password.

`sessions.py` and `minting.py` create the session or the key that follows.
"""

from authz.core.errors import Refused, Throttled, WrongCredentials
from authz.core.outcomes import LoginOutcome
from authz.core.owners import PASSWORD_CHARS_MAX, Owner, normalised_password
from authz.core.throttles import Attempt
from authz.service.portal.ports import NormaliseEmail, OwnerLedger, Passwords, PortalObserver
from authz.service.portal.throttling import Gate


class Login:
    """Authenticates an owner by address and password."""

    def __init__(
        self,
        ledger: OwnerLedger,
        passwords: Passwords,
        gate: Gate,
        normalise_email: NormaliseEmail,
        observer: PortalObserver,
    ) -> None:
        self._ledger = ledger
        self._passwords = passwords
        self._gate = gate
        self._normalise_email = normalise_email
        self._observer = observer

    async def authenticate(self, email: str, password: str, address: str) -> Owner:
        """Return the owner; raises `WrongCredentials` or `Throttled`. An invalid e-mail address counts as unknown."""
        try:
            owner = await self._authenticate(email, password, address)
        except Throttled:
            self._observer.logged_in(LoginOutcome.THROTTLED)
            raise
        except WrongCredentials:
            self._observer.logged_in(LoginOutcome.WRONG)
            raise
        self._observer.logged_in(LoginOutcome.RIGHT)
        return owner

    async def _authenticate(self, email: str, password: str, address: str) -> Owner:
        try:
            email = self._normalise_email(email)
        except Refused:
            email = ""
        await self._gate.admit(Attempt.LOGIN, address=address, subject=email)
        if len(password) > PASSWORD_CHARS_MAX:
            raise WrongCredentials("invalid email or password")
        owner = await self._ledger.owner_of_email(email)
        password = normalised_password(password)
        # A hash is computed for an unknown address too: the time must not reveal who has an account.
        password_hash = self._passwords.decoy if owner is None else owner.password_hash
        is_right = await self._passwords.verify(password_hash, password)
        if owner is None or not is_right:
            raise WrongCredentials("invalid email or password")
        await self._gate.forgive(Attempt.LOGIN, subject=email)
        if self._passwords.is_outdated(password_hash):
            await self._ledger.rehash(owner, await self._passwords.hash(password))
        return owner
