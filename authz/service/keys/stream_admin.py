"""Operations on open streams: list those of an account, and free a slot manually.

A `ports.LeaseStore` counts leases; `service/check/leases.py` releases them normally.
"""

from authz.core.errors import Refused
from authz.core.policy.policy import Policy
from authz.core.streams import OpenStream
from authz.service.ports import LeaseStore


class StreamAdmin:
    """The use cases of open streams, for the classes of one policy. Both raise `StoreUnavailable`."""

    def __init__(self, store: LeaseStore, policy: Policy) -> None:
        self._store = store
        self._policy = policy

    async def streams(self, account_id: str) -> list[OpenStream]:
        """Return an account's open streams, oldest first."""
        classes = [await self._store.streams(account_id, name) for name in self._policy.streams]
        return sorted((stream for listed in classes for stream in listed), key=lambda stream: stream.opened_at_ms)

    async def release(self, account_id: str, lease_id: str) -> OpenStream:
        """Free a slot; a stream that is still open acquires it again with its next heartbeat. Raises `Refused`."""
        for stream in await self.streams(account_id):
            if stream.lease.lease_id == lease_id:
                await self._store.release(stream.lease, guard_s=0)
                return stream
        raise Refused(f"account {account_id} has no open stream {lease_id}")
