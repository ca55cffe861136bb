"""Dashboard sessions in Redis (`service.portal.ports.SessionStore`): one hash `s:<digest>` each, with a time to live.

The secret of the browser is not stored: a reader of Redis cannot use the sessions.
"""

from base64 import urlsafe_b64encode
from importlib.resources import files

from authz.adapters.redis.connection.link import Caller, Script

OPEN, USE, END = (
    Script(files("authz.adapters.redis").joinpath("lua", f"session_{name}.lua").read_bytes())
    for name in ("open", "use", "end")
)


class RedisSessions:
    """Stores sessions over one link. Every method raises `StoreUnavailable`."""

    def __init__(self, link: Caller, *, idle_s: int, life_s: int) -> None:
        self._link = link
        self._idle_ms = b"%d" % (idle_s * 1000)
        self._life_ms = b"%d" % (life_s * 1000)

    async def open(self, digest: bytes, account_id: str, generation: int) -> None:
        """Create a session."""
        about = (account_id.encode(), b"%d" % generation, self._idle_ms, self._life_ms)
        await self._link.call(OPEN, _key(digest), *about)

    async def use(self, digest: bytes) -> tuple[str, int] | None:
        """Return the account and the password generation of a session and extend it; None if it has ended."""
        reply = await self._link.call(USE, _key(digest), self._idle_ms)
        return None if reply is None else (reply[0].decode(), int(reply[1]))

    async def end(self, digest: bytes) -> None:
        """End a session."""
        await self._link.call(END, _key(digest))


def _key(digest: bytes) -> bytes:
    return b"s:" + urlsafe_b64encode(digest)
