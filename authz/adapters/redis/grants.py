"""Device grants in Redis (`service.portal.ports.Grants`): one hash `g:<user code>` per grant, with a time to live.

A grant contains no credential: the device code is stored as a digest, and a key is created only when it is issued.
"""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from importlib.resources import files

from authz.adapters.redis.connection.scripts import Caller, Script
from authz.core.device import Approval, Grant, GrantStatus
from authz.core.errors import Refused

START, POLL, LOOK, DECIDE, SETTLE = (
    Script(files("authz.adapters.redis").joinpath("lua", f"grant_{name}.lua").read_bytes())
    for name in ("start", "poll", "look", "decide", "settle")
)

_LOOKS_MAX = 10


class RedisGrants:
    """Stores grants over one link. Every method raises `StoreUnavailable`."""

    def __init__(self, link: Caller) -> None:
        self._link = link

    async def start(
        self,
        user_code: str,
        digest: bytes,
        address: str,
        client: str,
        life_s: int,
        scopes: frozenset[str] = frozenset(),
    ) -> bool:
        """Create a grant; return False if its code is in use."""
        about = (urlsafe_b64encode(digest), address.encode(), client.encode(), b"%d" % (life_s * 1000), _joined(scopes))
        return bool(await self._link.call(START, _key(user_code), *about))

    async def poll(self, user_code: str, digest: bytes) -> tuple[GrantStatus, Approval | None]:
        """Return the state of a grant; the first poll after the approval receives it."""
        reply = await self._link.call(POLL, _key(user_code), urlsafe_b64encode(digest))
        if reply is None:
            return GrantStatus.EXPIRED, None
        status, *rest = (part.decode() for part in reply)
        if status != GrantStatus.APPROVED:
            return GrantStatus(status), None
        account_id, scopes = rest
        return GrantStatus.APPROVED, Approval(account_id, frozenset(scopes.split()))

    async def settle(self, user_code: str, *, is_over: bool) -> None:
        """End the claim of the poll that received the approval."""
        await self._link.call(SETTLE, _key(user_code), b"1" if is_over else b"0")

    async def look(self, user_code: str) -> Grant | None:
        """Return a grant that is pending, None if there is none."""
        reply = await self._link.call(LOOK, _key(user_code), b"%d" % _LOOKS_MAX)
        if reply is None:
            return None
        address, client, started_s, scopes = ((part or b"").decode() for part in reply)
        started_at = datetime.fromtimestamp(int(started_s), UTC)
        return Grant(user_code, address, client, started_at, frozenset(scopes.split()))

    async def decide(self, user_code: str, approval: Approval | None) -> bool:
        """Approve a grant, or refuse it with None; return False if no grant is pending."""
        if approval is None:
            return bool(await self._link.call(DECIDE, _key(user_code), b"refused", b"", b""))
        arguments = (b"approved", approval.account_id.encode(), _joined(approval.scopes))
        decided = await self._link.call(DECIDE, _key(user_code), *arguments)
        if decided == -1:
            raise Refused("the device did not request all of these scopes")
        return bool(decided)


def _joined(scopes: frozenset[str]) -> bytes:
    return " ".join(sorted(scopes)).encode()


def _key(user_code: str) -> bytes:
    return b"g:" + user_code.encode()
