"""Dashboard sessions: opened by a login, identified by the browser's secret, ended by a new password.

`portal/browser_sessions.py` transports the secret; `login.py` authenticates.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from authz.core.accounts import Actor, AuditEvent
from authz.core.errors import Refused
from authz.core.owners import OpenSession, Owner
from authz.core.text import ascii_only
from authz.service.portal.ports import OwnerLedger, SessionStore

_SECRET_BYTES = 32
_BROWSER_CHARS_MAX = 200
_ID = re.compile(r"[0-9A-Za-z_=-]{44}")


class Sessions:
    """Opens, finds and ends sessions. Every method raises `StoreUnavailable`."""

    def __init__(self, store: SessionStore, ledger: OwnerLedger, *, entropy: Callable[[int], bytes]) -> None:
        self._store = store
        self._ledger = ledger
        self._entropy = entropy

    def new_secret(self) -> str:
        """Create a secret that belongs to no session yet."""
        return urlsafe_b64encode(self._entropy(_SECRET_BYTES)).decode().rstrip("=")

    async def open(self, owner: Owner, address: str = "", browser: str = "") -> str:
        """Start a session and return its secret, which is always new, whatever the browser sent.

        `address` and `browser` are shown to the owner; `browser` is what the browser calls itself.
        """
        secret, browser = self.new_secret(), ascii_only(browser[:_BROWSER_CHARS_MAX])
        await self._store.open(_digest(secret), owner.account_id, owner.generation, address=address, browser=browser)
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

    async def listed(self, owner: Owner, secret: str) -> list[OpenSession]:
        """Return the open sessions of an owner, newest first; `secret` tells the current one."""
        current = urlsafe_b64encode(_digest(secret)).decode()
        return [
            replace(session, is_current=session.id == current)
            for session in await self._store.listed(owner.account_id)
            if session.generation == owner.generation
        ]

    async def end_listed(self, owner: Owner, session_id: str, address: str) -> None:
        """End a session of an owner by its id; raises `Refused` if the owner has no such session."""
        if not _ID.fullmatch(session_id) or not await self._store.end_listed(owner.account_id, session_id):
            raise Refused("this session has ended")
        await self._ledger.note(owner.account_id, AuditEvent.SESSION_ENDED, _actor(owner, address))

    async def end_others(self, owner: Owner, secret: str, address: str) -> int:
        """End every session of an owner except the current one, and return how many have ended."""
        ended = 0
        for session in await self.listed(owner, secret):
            if not session.is_current and await self._store.end_listed(owner.account_id, session.id):
                ended += 1
        if ended:
            await self._ledger.note(owner.account_id, AuditEvent.SESSION_ENDED, _actor(owner, address))
        return ended

    async def end(self, secret: str) -> None:
        """End a session."""
        await self._store.end(_digest(secret))


def _actor(owner: Owner, address: str) -> Actor:
    return Actor(f"owner:{owner.account_id}", address)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
