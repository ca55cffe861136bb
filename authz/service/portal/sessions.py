"""Dashboard sessions: opened by a login, identified by the browser's secret, ended by a new password.

`portal/browser_sessions.py` transports the secret; `login.py` authenticates.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256

from authz.core.owners import Owner
from authz.service.portal.ports import OwnerLedger, SessionStore

_SECRET_BYTES = 32


class Sessions:
    """Opens, finds and ends sessions. Every method raises `StoreUnavailable`."""

    def __init__(self, store: SessionStore, ledger: OwnerLedger, *, entropy: Callable[[int], bytes]) -> None:
        self._store = store
        self._ledger = ledger
        self._entropy = entropy

    def new_secret(self) -> str:
        """Create a secret that belongs to no session yet."""
        return urlsafe_b64encode(self._entropy(_SECRET_BYTES)).decode().rstrip("=")

    async def open(self, owner: Owner) -> str:
        """Start a session and return its secret, which is always new, whatever the browser sent."""
        secret = self.new_secret()
        await self._store.open(_digest(secret), owner.account_id, owner.generation)
        return secret

    async def owner(self, secret: str) -> Owner | None:
        """Return the owner of a session; None if there is none, or if the password was changed since."""
        if not secret:
            return None
        known = await self._store.use(_digest(secret))
        if known is None:
            return None
        account_id, generation = known
        owner = await self._ledger.owner(account_id)
        if owner is None or owner.generation != generation:
            await self._store.end(_digest(secret))
            return None
        return owner

    async def end(self, secret: str) -> None:
        """End a session."""
        await self._store.end(_digest(secret))


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
