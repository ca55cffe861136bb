"""Keys that come with a signup, a login, or the approval of a device.

Keys that owners create in the dashboard are `owner_keys.py`, those of operators `../keys/admin.py`.
"""

from authz.core.accounts import Actor, AuditEvent, NewApiKey
from authz.core.errors import KeyLimitReached
from authz.core.policy.policy import Policy
from authz.core.throttles import Attempt
from authz.service.keys.admin import KeyAdmin, KeyRequest
from authz.service.portal.notices import Notice, Notices, described
from authz.service.portal.throttling import Gate


class Minting:
    """Creates keys, by default with every scope of the policy."""

    def __init__(self, admin: KeyAdmin, gate: Gate, policy: Policy, notices: Notices) -> None:
        self._admin = admin
        self._notices = notices
        self._gate = gate
        self.every_scope = frozenset(policy.scopes)

    async def mint(
        self,
        account_id: str,
        name: str,
        actor: Actor,
        event: AuditEvent = AuditEvent.KEY_MINTED_BY_LOGIN,
        scopes: frozenset[str] = frozenset(),
    ) -> NewApiKey:
        """Create a key; raises `Refused`, with advice if the account has too many, and `Throttled`."""
        await self._gate.admit(Attempt.KEY_CREATION, address=actor.source_address, subject=account_id)
        request = KeyRequest(account_id, name, scopes or self.every_scope)
        try:
            made = await self._admin.create_key(request, actor, event)
        except KeyLimitReached as error:
            raise KeyLimitReached(f"{error}; revoke an unused key first") from None
        self._notices.tell(account_id, Notice.KEY_CREATED, actor.source_address, described(made.key))
        return made
