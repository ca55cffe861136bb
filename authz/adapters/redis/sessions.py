"""Dashboard sessions in Redis (`service.portal.ports.SessionStore`): one hash `s:<digest>` each, with a time to live.

The secret of the browser is not stored: a reader of Redis cannot use the sessions. The hash `s:@<account>` is an index
of an account's sessions, to list them; whether a session is open is in its own hash.
"""

import asyncio
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from importlib.resources import files

from authz.adapters.redis.connection.scripts import Caller, Script
from authz.core.owners import OpenSession

OPEN, USE, END, NOTE, LIST, LOOK, FORGET = (
    Script(files("authz.adapters.redis").joinpath("lua", f"session_{name}.lua").read_bytes())
    for name in ("open", "use", "end", "note", "list", "look", "forget")
)

_SESSIONS_MAX = 50
"""The most sessions of an account; another one ends the oldest, so that the list stays complete and short."""


class RedisSessions:
    """Stores sessions over one link. Every method raises `StoreUnavailable`."""

    def __init__(self, link: Caller, *, idle_s: int, life_s: int) -> None:
        self._link = link
        self._idle_ms = b"%d" % (idle_s * 1000)
        self._life_ms = b"%d" % (life_s * 1000)

    async def open(
        self, digest: bytes, account_id: str, generation: int, *, address: str = "", browser: str = ""
    ) -> None:
        """Create a session; `address` and `browser` have no line breaks."""
        about = (account_id.encode(), b"%d" % generation, self._idle_ms, self._life_ms)
        await self._link.call(OPEN, _key(digest), *about)
        noted = (urlsafe_b64encode(digest), b"%d" % generation, address.encode(), browser.encode(), self._life_ms)
        # The index may be on another server of a cluster, so it is written by a call of its own.
        if await self._link.call(NOTE, _index(account_id), *noted) > _SESSIONS_MAX:
            oldest = (await self.listed(account_id))[_SESSIONS_MAX:]
            await asyncio.gather(*(self.end_listed(account_id, session.id) for session in oldest))

    async def use(self, digest: bytes) -> tuple[str, int] | None:
        """Return the account and the password generation of a session and extend it; None if it has ended."""
        reply = await self._link.call(USE, _key(digest), self._idle_ms)
        return None if reply is None else (reply[0].decode(), int(reply[1]))

    async def end(self, digest: bytes) -> None:
        """End a session."""
        account_id = await self._link.call(END, _key(digest))
        if account_id is not None:
            await self._link.call(FORGET, _index(account_id.decode()), urlsafe_b64encode(digest))

    async def listed(self, account_id: str) -> list[OpenSession]:
        """Return the open sessions of an account, newest first; others are removed from the index."""
        reply = await self._link.call(LIST, _index(account_id))
        sessions = [_session(name, facts) for name, facts in zip(reply[::2], reply[1::2], strict=True)]
        are_open = await asyncio.gather(*(self._link.call(LOOK, b"s:" + session.id.encode()) for session in sessions))
        for session, is_open in zip(sessions, are_open, strict=True):
            if not is_open:
                await self._link.call(FORGET, _index(account_id), session.id.encode())
        found = [session for session, is_open in zip(sessions, are_open, strict=True) if is_open]
        return sorted(found, key=lambda session: session.started_at, reverse=True)

    async def end_listed(self, account_id: str, session_id: str) -> bool:
        """End a session of an account by its id; return False if the account has no such session."""
        if not await self._link.call(FORGET, _index(account_id), session_id.encode()):
            return False
        await self._link.call(END, b"s:" + session_id.encode())
        return True


def _session(name: bytes, facts: bytes) -> OpenSession:
    started_us, generation, address, browser = facts.decode().split("\n")
    started_at = datetime.fromtimestamp(int(started_us) / 1_000_000, UTC)
    return OpenSession(name.decode(), started_at, int(generation), address, browser)


def _index(account_id: str) -> bytes:
    return b"s:@" + account_id.encode()


def _key(digest: bytes) -> bytes:
    return b"s:" + urlsafe_b64encode(digest)
