"""Keys that a signup, a login or an approved device receives automatically.

Keys that owners and operators create explicitly are `service/keys/admin.py`.
"""

from authz.core.accounts import Actor, AuditEvent, NewApiKey
from authz.core.errors import KeyLimitReached
from authz.core.policy.policy import Policy
from authz.service.keys.admin import KeyAdmin, KeyRequest


class Minting:
    """Creates keys, by default with every scope of the policy."""

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
        """Create a key; raises `Refused`, with advice if the account has the maximum number of keys."""
        request = KeyRequest(account_id, name, scopes or self.every_scope)
        try:
            return await self._admin.create_key(request, actor, event)
        except KeyLimitReached as error:
            raise KeyLimitReached(f"{error}; revoke an unused key first") from None
