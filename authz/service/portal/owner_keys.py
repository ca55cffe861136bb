"""What owners do with the keys of their own account, and of no other, as often as the policy's throttles permit.

The rules for keys belong to `../keys/admin.py`; `sessions.py` has identified the owner.
"""

from collections.abc import Collection
from datetime import datetime

from authz.core.accounts import Actor, ApiKey, AuditEvent, NewApiKey, Rotation
from authz.core.errors import KeyUnknown, NotEffectiveYet, Refused
from authz.core.throttles import Attempt
from authz.service.keys.admin import KeyAdmin, KeyRequest
from authz.service.portal.notices import Notice, Notices, described
from authz.service.portal.throttling import Gate


class OwnerKeys:
    """Keys, each looked up with its account: a key belongs to one account forever."""

    def __init__(self, admin: KeyAdmin, gate: Gate, notices: Notices) -> None:
        self._admin = admin
        self._notices = notices
        self._gate = gate

    async def live_keys(self, account_id: str) -> list[ApiKey]:
        """Return the keys of an account that are neither revoked nor expired, newest first."""
        return await self._admin.live_keys(account_id)

    async def latest_keys(
        self, account_id: str, before: str, rows_max: int, *, ended_only: bool = False
    ) -> list[ApiKey]:
        """Return a page of an account's keys, newest first (`KeyAdmin.latest_keys`)."""
        return await self._admin.latest_keys(account_id, before, rows_max, ended_only=ended_only)

    async def names(self, account_id: str, key_ids: Collection[str]) -> dict[str, str]:
        """Return the names of those of the keys that the account has, by id."""
        return await self._admin.key_names(account_id, key_ids)

    async def key(self, account_id: str, key_id: str) -> ApiKey:
        """Return one key; raises `KeyUnknown` if the account has no such key."""
        try:
            key = await self._admin.key(key_id)
        except Refused:
            key = None
        if key is None or key.account_id != account_id:
            raise KeyUnknown("there is no such key")
        return key

    async def create(
        self, account_id: str, name: str, scopes: frozenset[str], expires_at: datetime | None, address: str
    ) -> NewApiKey:
        """Create a key; raises `Refused` and its kinds."""
        await self._admit(Attempt.KEY_CREATION, account_id, address)
        request = KeyRequest(account_id, name, scopes, expires_at=expires_at)
        made = await self._admin.create_key(request, _actor(account_id, address))
        self._notices.tell(account_id, Notice.KEY_CREATED, address, described(made.key))
        return made

    async def rotate(self, account_id: str, key_id: str, overlap_s: float, address: str) -> Rotation:
        """Create a key beside one that continues for `overlap_s`; raises `KeyUnknown` and `Refused`."""
        key = await self.key(account_id, key_id)
        await self._admit(Attempt.KEY_CREATION, account_id, address)
        rotation = await self._admin.rotate(key.id, overlap_s, _actor(account_id, address))
        self._notices.tell(account_id, Notice.KEY_ROTATED, address, described(key))
        return rotation

    async def disable(self, account_id: str, key_id: str, address: str) -> None:
        """Disable a key until it is enabled again; raises `KeyUnknown`, `Refused` and `NotEffectiveYet`."""
        await self._change(account_id, key_id, AuditEvent.KEY_DISABLED, address)

    async def enable(self, account_id: str, key_id: str, address: str) -> None:
        """Enable a key that its owner has disabled; raises as `disable` does."""
        await self._change(account_id, key_id, AuditEvent.KEY_ENABLED, address)

    async def revoke(self, account_id: str, key_id: str, address: str) -> None:
        """Revoke a key; raises as `disable` does."""
        await self._change(account_id, key_id, AuditEvent.KEY_REVOKED, address)

    async def _change(self, account_id: str, key_id: str, event: AuditEvent, address: str) -> None:
        key = await self.key(account_id, key_id)
        await self._admit(Attempt.KEY_CHANGE, account_id, address)
        own_only = event is AuditEvent.KEY_ENABLED
        try:
            await self._admin.change_key(key.id, event, _actor(account_id, address), own_only=own_only)
        except NotEffectiveYet:
            self._tell_of(event, key, address)  # the change is durable
            raise
        self._tell_of(event, key, address)

    def _tell_of(self, event: AuditEvent, key: ApiKey, address: str) -> None:
        if event is AuditEvent.KEY_REVOKED:
            self._notices.tell(key.account_id, Notice.KEY_REVOKED, address, described(key))

    async def _admit(self, attempt: Attempt, account_id: str, address: str) -> None:
        await self._gate.admit(attempt, address=address, subject=account_id)


def _actor(account_id: str, address: str) -> Actor:
    return Actor(f"owner:{account_id}", address)
