"""Leases of open streams in Redis: one hash per account and class, one script per operation.

    l:{ACCOUNT}:CLASS            lease id -> "KEY_ID OPENED_MS EXPIRES_MS KEPT_MS SEEN_MS CLAIMS"
    l:{ACCOUNT}:CLASS:LEASE_ID   end mark of a stream, kept for a short time, so that late renewals have no effect
    l:{ACCOUNT}                  id -> "REVISION STATE", of keys that changed their state, and of the account

The account id is the hash tag: each script touches one slot. `service/check/leases.py` decides when a lease is
acquired, renewed and released; the scripts in `lua/` use the clock of the server.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from authz.adapters.redis.connection.cluster import RedisCluster
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Caller, Script
from authz.core.check import AccountRecord, KeyRecord
from authz.core.streams import AcquireOutcome, Acquisition, Lease, OpenStream, Renewal, RenewOutcome, StreamClass

STOPPED_TTL_S = 86_400
"""How long the state of a stopped key is kept for its streams: far longer than a stream lasts."""

_LUA = files("authz.adapters.redis").joinpath("lua")


def _script(name: str) -> Script:
    return Script(_LUA.joinpath("leases.lua").read_bytes() + _LUA.joinpath(f"lease_{name}.lua").read_bytes())


_NAMES = ("acquire", "undo", "renew", "suspect", "release", "list")
ACQUIRE, _UNDO, _RENEW, _SUSPECT, _RELEASE, _LIST = LEASE_SCRIPTS = tuple(_script(name) for name in _NAMES)
_STOP = Script(_LUA.joinpath("lease_stop.lua").read_bytes())


class RedisLeases:
    """The leases of all streams (`service.ports.LeaseStore`) over one link."""

    def __init__(self, link: RedisLink | RedisCluster) -> None:
        self._link = link

    @property
    def reconnected_at_s(self) -> float | None:
        """Return when the latest reconnection took place (`service.ports.LeaseStore`)."""
        return self._link.reconnected_at_s

    async def acquire(self, lease: Lease, stream: StreamClass, pending_s: float) -> Acquisition:
        """Acquire a lease (`service.ports.LeaseStore`)."""
        keys, arguments = acquire_words(lease, stream, pending_s, self._link.data_mark)
        return acquisition(await self._link.call(ACQUIRE, keys, *arguments))

    async def undo(self, lease: Lease) -> bool:
        """Withdraw one claim (`service.ports.LeaseStore`)."""
        return bool(await self._call(_UNDO, lease))

    async def renew(self, lease: Lease, stream: StreamClass, opened_at_ms: int) -> Renewal:
        """Renew a lease (`service.ports.LeaseStore`)."""
        caps = (lease.key_id, stream.per_key, stream.per_account)
        outcome, exceeds = await self._call(_RENEW, lease, *caps, _ms(stream.ttl_s), opened_at_ms)
        return Renewal(RenewOutcome(outcome.decode()), bool(exceeds))

    async def suspect(self, lease: Lease, within_s: float) -> bool:
        """Shorten the life of a lease (`service.ports.LeaseStore`)."""
        return bool(await self._call(_SUSPECT, lease, _ms(within_s)))

    async def release(self, lease: Lease, *, guard_s: float) -> float | None:
        """Release a lease (`service.ports.LeaseStore`)."""
        age_ms = await self._call(_RELEASE, lease, _ms(guard_s))
        return None if age_ms < 0 else age_ms / 1000

    async def streams(self, account_id: str, stream: str) -> list[OpenStream]:
        """Return the open streams of an account in one class (`service.ports.LeaseStore`)."""
        listed = await self._link.call(_LIST, _keys(Lease("", account_id, "", stream))[:2])
        return sorted((_opened(account_id, stream, *row) for row in listed), key=lambda it: it.opened_at_ms)

    async def _call(self, script: Script, lease: Lease, *arguments: str | float) -> Any:  # noqa: ANN401 -- any reply
        encoded = (str(argument).encode() for argument in arguments)
        return await self._link.call(script, _keys(lease), lease.lease_id.encode(), *encoded)


async def note_key(link: Caller, record: KeyRecord) -> None:
    """Record the state of a key beside the leases of its account, unless a newer revision is recorded.

    Raises `StoreUnavailable`.
    """
    arguments = (record.key_id, str(record.revision), record.state.value, str(STOPPED_TTL_S * 1000))
    await link.call(_STOP, _stopped(record.account_id), *(argument.encode() for argument in arguments))


async def note_account(link: Caller, record: AccountRecord) -> None:
    """Record the state of an account beside its leases, as `note_key` does for a key."""
    state = "s" if record.is_suspended else "a"
    arguments = (record.account_id, str(record.revision), state, str(STOPPED_TTL_S * 1000))
    await link.call(_STOP, _stopped(record.account_id), *(argument.encode() for argument in arguments))


def acquire_words(
    lease: Lease, stream: StreamClass, pending_s: float, data_mark: bytes
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the keys and the arguments of `ACQUIRE`."""
    words = (lease.lease_id, lease.key_id, stream.per_key, stream.per_account, _ms(pending_s))
    return _keys(lease), (*(str(word).encode() for word in words), data_mark)


def acquisition(reply: Sequence[Any]) -> Acquisition:
    """Parse the reply of `ACQUIRE`; raises ValueError for an unknown outcome."""
    outcome, *counts = reply
    return Acquisition(AcquireOutcome(outcome.decode()), *counts)


def _keys(lease: Lease) -> tuple[bytes, bytes, bytes]:
    leases = f"l:{{{lease.account_id}}}:{lease.stream}".encode()
    return leases, _stopped(lease.account_id), b"%b:%b" % (leases, lease.lease_id.encode())


def _stopped(account_id: str) -> bytes:
    return f"l:{{{account_id}}}".encode()


def _opened(account_id: str, stream: str, lease_id: bytes, text: bytes, stopped: int) -> OpenStream:
    key_id, opened, expires, _kept, seen, _claims = text.decode().split(" ")
    lease = Lease(lease_id.decode(), account_id, key_id, stream)
    return OpenStream(lease, int(opened), int(expires), int(seen), bool(stopped))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
