"""Counters of attempts in Redis (`service.portal.ports.Counters`): `t:<kind>:<digest of whom>`, with a time to live.

The policy sets the limits. Addresses and e-mail addresses are stored as digests only.
"""

from base64 import urlsafe_b64encode
from hashlib import sha256
from importlib.resources import files

from authz.adapters.redis.connection.scripts import Caller, Script

THROTTLE = Script(files("authz.adapters.redis").joinpath("lua", "throttle.lua").read_bytes())

_NAME_BYTES = 15


class RedisThrottles:
    """Counts attempts in fixed windows, over one link."""

    def __init__(self, link: Caller) -> None:
        self._link = link

    async def take(self, kind: str, whom: str, attempts_max: int, window_s: int) -> bool:
        """Count an attempt; return False if the window is full. Raises `StoreUnavailable`."""
        return await self._count(kind, whom, attempts_max, window_s * 1000, 1)

    async def refund(self, kind: str, whom: str) -> None:
        """Withdraw an attempt. Raises `StoreUnavailable`."""
        await self._count(kind, whom, 0, 0, -1)

    async def _count(self, kind: str, whom: str, *numbers: int) -> bool:
        name = urlsafe_b64encode(sha256(whom.encode()).digest()[:_NAME_BYTES])
        key = b"t:%b:%b" % (kind.encode(), name)
        return bool(await self._link.call(THROTTLE, key, *(b"%d" % number for number in numbers)))
