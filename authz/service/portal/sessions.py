"""Dashboard sessions: opened by a login, known by a secret that only the browser has, over with a new password.

How the secret travels is `portal/visits.py`; how someone logs in is `login.py`.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256

from authz.core.owners import Owner
from authz.service.portal.ports import OwnerLedger, SessionStore

_SECRET_BYTES = 32


class Sessions:
    """Opens, recognises and ends sessions. Every method raises `StoreUnavailable`."""

    def __init__(self, store: SessionStore, ledger: OwnerLedger, *, entropy: Callable[[int], bytes]) -> None:
        self._store = store
        self._ledger = ledger
        self._entropy = entropy

    def new_secret(self) -> str:
        """Make a secret that opens nothing yet."""
        return urlsafe_b64encode(self._entropy(_SECRET_BYTES)).decode().rstrip("=")

    async def open(self, owner: Owner) -> str:
        """Begin a session and return its secret: always a new one, whatever the browser came with."""
        secret = self.new_secret()
        await self._store.open(_digest(secret), owner.account_id, owner.generation)
        return secret

    async def owner(self, secret: str) -> Owner | None:
        """Return whose session it is; None where there is none, or its password was changed since."""
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
