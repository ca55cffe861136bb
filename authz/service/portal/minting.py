"""Keys that people get without asking for one: with a signup, a login, or the approval of a device.

Keys that owners make in the dashboard and operators in a shell are `key_admin.py`.
"""

from authz.core.accounts import Actor, AuditEvent, NewApiKey
from authz.core.errors import KeyLimitReached
from authz.core.policy.policy import Policy
from authz.service.keys.admin import KeyAdmin, KeyRequest


class Minting:
    """Makes keys that hold every scope there is, unless told otherwise."""

    def __init__(self, admin: KeyAdmin, policy: Policy) -> None:
        self._admin = admin
        self.every_scope = frozenset(policy.scopes)

    async def mint(
        self,
        account_id: str,
        name: str,
        actor: Actor,
        event: AuditEvent = AuditEvent.KEY_MINTED_BY_LOGIN,
        scopes: frozenset[str] = frozenset(),
    ) -> NewApiKey:
        """Make a key; raises `Refused`, with advice where the account has no room for another."""
        request = KeyRequest(account_id, name, scopes or self.every_scope)
        try:
            return await self._admin.create_key(request, actor, event)
        except KeyLimitReached as error:
            raise KeyLimitReached(f"{error}; revoke an unused key first") from None
