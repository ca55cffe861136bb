"""Login with a password: the same answer and the same time for an unknown address and a wrong password.

`sessions.py` and `minting.py` create the session or the key that follows.
"""

from authz.core.errors import Refused, Throttled, WrongCredentials
from authz.core.outcomes import LoginOutcome
from authz.core.owners import Owner, is_bounded_password, normalised_password
from authz.core.throttles import Attempt
from authz.service.portal.familiar import FamiliarBrowsers
from authz.service.portal.ports import NormaliseEmail, OwnerLedger, Passwords, PortalObserver
from authz.service.portal.throttling import Gate

_WRONG = "invalid email or password"


class Login:
    """Authenticates an owner by address and password."""

    def __init__(
        self,
        ledger: OwnerLedger,
        passwords: Passwords,
        gate: Gate,
        normalise_email: NormaliseEmail,
        observer: PortalObserver,
        browsers: FamiliarBrowsers | None = None,
    ) -> None:
        self._ledger = ledger
        self._passwords = passwords
        self._gate = gate
        self._normalise_email = normalise_email
        self._observer = observer
        self._browsers = browsers or FamiliarBrowsers(b"")

    async def authenticate(self, email: str, password: str, address: str, browser: str = "") -> Owner:
        """Return the owner; raises `WrongCredentials` or `Throttled`. An invalid e-mail address counts as unknown.

        `browser` is what `familiar_browser` returned at an earlier login in the same browser, or empty.
        """
        try:
            owner = await self._authenticate(email, password, address, browser)
        except Throttled:
            self._observer.logged_in(LoginOutcome.THROTTLED)
            raise
        except WrongCredentials:
            self._observer.logged_in(LoginOutcome.WRONG)
            raise
        self._observer.logged_in(LoginOutcome.RIGHT)
        return owner

    def familiar_browser(self, owner: Owner) -> str:
        """Return a token for a browser in which an owner has logged in: strangers cannot lock it out."""
        return self._browsers.token(owner.email)

    def is_familiar(self, owner: Owner, browser: str) -> bool:
        """Tell whether a browser has a token of this owner."""
        return bool(self._browsers.nonce(browser, owner.email))

    async def _authenticate(self, email: str, password: str, address: str, browser: str) -> Owner:
        # The order is: limit the bytes, count the attempt, then normalise, because normalising costs more.
        if not is_bounded_password(password):
            raise WrongCredentials(_WRONG)
        await self._gate.admit(Attempt.LOGIN, address=address)
        try:
            email, password = self._normalise_email(email), normalised_password(password)
        except Refused:
            email, password = "", ""
        nonce = self._browsers.nonce(browser, email)
        await self._gate.admit_guess(Attempt.LOGIN, address=address, subject=email, browser=nonce)
        owner = await self._ledger.owner_of_email(email)
        # A hash is computed for an unknown address too: the time must not reveal who has an account.
        password_hash = self._passwords.decoy if owner is None else owner.password_hash
        is_right = await self._passwords.verify(password_hash, password)
        if owner is None or not is_right:
            raise WrongCredentials(_WRONG)
        await self._gate.forgive_guess(Attempt.LOGIN, address=address, subject=email, browser=nonce)
        if self._passwords.is_outdated(password_hash):
            await self._ledger.rehash(owner, await self._passwords.hash(password))
        return owner
