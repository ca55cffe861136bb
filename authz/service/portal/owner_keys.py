"""The use cases of owners on the keys of their own account only.

`service/keys/admin.py` has the rules for keys; `sessions.py` authenticates the owner.
"""

from datetime import datetime

from authz.core.accounts import Actor, ApiKey, AuditEvent, NewApiKey, Rotation
from authz.core.errors import KeyUnknown
from authz.service.keys.admin import KeyAdmin, KeyRequest


class OwnerKeys:
    """Keys, each looked up with its account: a key belongs to one account forever."""

    def __init__(self, admin: KeyAdmin) -> None:
        self._admin = admin

    async def keys(self, account_id: str) -> list[ApiKey]:
        """Return an account's keys, newest first."""
        return (await self._admin.keys(account_id))[::-1]

    async def key(self, account_id: str, key_id: str) -> ApiKey:
        """Return one key; raises `KeyUnknown` if the account has no such key."""
        for key in await self._admin.keys(account_id):
            if key.id == key_id:
                return key
        raise KeyUnknown("there is no such key")

    async def create(
        self, account_id: str, name: str, scopes: frozenset[str], expires_at: datetime | None, address: str
    ) -> NewApiKey:
        """Create a key; raises `Refused` and its subclasses."""
        request = KeyRequest(account_id, name, scopes, expires_at=expires_at)
        return await self._admin.create_key(request, _actor(account_id, address))

    async def rotate(self, account_id: str, key_id: str, overlap_s: float, address: str) -> Rotation:
        """Replace a key, which stays valid for `overlap_s`; raises `KeyUnknown` and `Refused`."""
        key = await self.key(account_id, key_id)
        return await self._admin.rotate(key.id, overlap_s, _actor(account_id, address))

    async def disable(self, account_id: str, key_id: str, address: str) -> None:
        """Stop a key until it is enabled again; raises `KeyUnknown`, `Refused` and `NotEffectiveYet`."""
        key = await self.key(account_id, key_id)
        await self._admin.change_key(key.id, AuditEvent.KEY_DISABLED, _actor(account_id, address))

    async def enable(self, account_id: str, key_id: str, address: str) -> None:
        """Enable a key that its owner has disabled; raises as `disable` does."""
        key = await self.key(account_id, key_id)
        await self._admin.change_key(key.id, AuditEvent.KEY_ENABLED, _actor(account_id, address), own_only=True)

    async def revoke(self, account_id: str, key_id: str, address: str) -> None:
        """Revoke a key permanently; raises `KeyUnknown` and `NotEffectiveYet`."""
        key = await self.key(account_id, key_id)
        await self._admin.change_key(key.id, AuditEvent.KEY_REVOKED, _actor(account_id, address))


def _actor(account_id: str, address: str) -> Actor:
    return Actor(f"owner:{account_id}", address)
