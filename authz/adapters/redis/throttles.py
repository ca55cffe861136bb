"""Counts of attempts in Redis (`service.portal_ports.Counters`): `t:<kind>:<digest of whom>`, gone when they end.

How many are allowed is policy; addresses and e-mails are not kept, only digests of them.
"""

from base64 import urlsafe_b64encode
from hashlib import sha256
from importlib.resources import files

from authz.adapters.redis.connection.link import Caller, Script

THROTTLE = Script(files("authz.adapters.redis").joinpath("lua", "throttle.lua").read_bytes())

_NAME_BYTES = 15


class RedisThrottles:
    """Counts attempts in windows, on one link."""

    def __init__(self, link: Caller) -> None:
        self._link = link

    async def take(self, kind: str, whom: str, attempts_max: int, window_s: int) -> bool:
        """Count an attempt; False where the window is full. Raises `StoreUnavailable`."""
        return await self._count(kind, whom, attempts_max, window_s * 1000, 1)

    async def refund(self, kind: str, whom: str) -> None:
        """Take an attempt back. Raises `StoreUnavailable`."""
        await self._count(kind, whom, 0, 0, -1)

    async def _count(self, kind: str, whom: str, *numbers: int) -> bool:
        name = urlsafe_b64encode(sha256(whom.encode()).digest()[:_NAME_BYTES])
        key = b"t:%b:%b" % (kind.encode(), name)
        return bool(await self._link.call(THROTTLE, key, *(b"%d" % number for number in numbers)))
