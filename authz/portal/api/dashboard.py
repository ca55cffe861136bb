"""The dashboard as a JSON API for programs in a browser, under `/v1/dashboard`.

It uses the same sessions as the pages; each change needs the same token, in a header. The list of sessions is
`sessions.py`.
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field

from authz.core.accounts import ApiKey
from authz.core.device import Approval, shown
from authz.core.owners import Owner
from authz.portal.api.public import Credentials, Text
from authz.portal.browser_logins import BrowserLogins
from authz.portal.browser_sessions import BrowserSessions, caller
from authz.portal.pages.rendering import state
from authz.portal.services import Services
from authz.service.keys.admin import PAGE_ROWS
from authz.service.portal.accounts import TRAIL_END


class SessionFacts(BaseModel):
    """The owner of the session, and the token that each change must carry as `x-csrf-token`."""

    account_id: str
    email: str
    email_verified: bool
    csrf_token: str = Field(repr=False)


class KeyFacts(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    hint: str
    state: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class MadeKey(BaseModel):
    """A new key with its secret, shown only once."""

    api_key: str = Field(repr=False)
    key: KeyFacts


class WantedKey(BaseModel):
    """The properties of a new key."""

    name: Text
    scopes: frozenset[Text]
    expires_at: AwareDatetime | None = None


class WantedRotation(BaseModel):
    """How long the replaced key continues to work."""

    overlap_s: int = Field(ge=0)


class AuditFacts(BaseModel):
    """One event in the audit trail; a later event has a higher `number`."""

    number: int
    at: datetime
    event: str
    actor: str
    source_address: str
    key_id: str | None


class GrantFacts(BaseModel):
    """A device that requests access, with the scopes that it may receive."""

    user_code: str
    client: str
    source_address: str
    started_at: datetime
    scopes: list[str]


class GrantedScopes(BaseModel):
    """The scopes that a device receives."""

    scopes: frozenset[Text]


class SessionApi:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._browser = BrowserSessions(services.sessions, services.public_url)
        self._logins = BrowserLogins(services, self._browser)
        self.router = APIRouter(prefix="/v1/dashboard", tags=["dashboard"])
        add, changes = self.router.add_api_route, [Depends(self._browser.check_header)]
        add("/session", self.show_session, methods=["GET"])
        add("/session", self.log_in, methods=["POST"], dependencies=changes)
        add("/session", self.log_out, methods=["DELETE"], dependencies=changes, status_code=204)
        add("/keys", self.list_keys, methods=["GET"])
        add("/keys", self.create_key, methods=["POST"], dependencies=changes)
        add("/keys/{key_id}:rotate", self.rotate_key, methods=["POST"], dependencies=changes)
        add("/keys/{key_id}:disable", self.disable_key, methods=["POST"], dependencies=changes, status_code=204)
        add("/keys/{key_id}:enable", self.enable_key, methods=["POST"], dependencies=changes, status_code=204)
        add("/keys/{key_id}:revoke", self.revoke_key, methods=["POST"], dependencies=changes, status_code=204)
        add("/audit", self.list_audit, methods=["GET"])
        add("/device/{user_code}", self.show_grant, methods=["GET"])
        add("/device/{user_code}:approve", self.approve, methods=["POST"], dependencies=changes, status_code=204)
        add("/device/{user_code}:refuse", self.refuse, methods=["POST"], dependencies=changes, status_code=204)

    async def show_session(self, request: Request, response: Response) -> SessionFacts:
        """Return the session; before a login, account and address are empty, and the token is for the login."""
        secret, owner = self._browser.secret(request), await self._browser.owner(request)
        if request.cookies.get(self._browser.cookie_name) != secret:
            self._browser.keep(response, secret)
        return self._facts(owner, secret)

    async def log_in(self, given: Credentials, request: Request, response: Response) -> SessionFacts:
        """Check the password and open a session, which has a new token."""
        owner = await self._logins.authenticate(request, given.email, given.password)
        secret = await self._logins.begin(request, response, owner)
        return self._facts(owner, secret)

    async def log_out(self, request: Request, response: Response) -> None:
        """End the session."""
        await self._browser.end(request, response)

    async def list_keys(self, request: Request, before: Annotated[str, Query(max_length=100)] = "") -> list[KeyFacts]:
        """Return the account's keys, newest first: the latest hundred, or those before the key with an id."""
        owner = await self._browser.session_owner(request)
        return [_key(key) for key in await self._services.keys.latest_keys(owner.account_id, before, PAGE_ROWS)]

    async def create_key(self, wanted: WantedKey, request: Request) -> MadeKey:
        """Create a key."""
        account_id, address = (await self._browser.session_owner(request)).account_id, caller(request)
        made = await self._services.keys.create(account_id, wanted.name, wanted.scopes, wanted.expires_at, address)
        return MadeKey(api_key=made.secret, key=_key(made.key))

    async def rotate_key(self, key_id: str, wanted: WantedRotation, request: Request) -> MadeKey:
        """Replace a key by a new one."""
        account_id, address = (await self._browser.session_owner(request)).account_id, caller(request)
        made = (await self._services.keys.rotate(account_id, key_id, wanted.overlap_s, address)).made
        return MadeKey(api_key=made.secret, key=_key(made.key))

    async def disable_key(self, key_id: str, request: Request) -> None:
        """Disable a key until it is enabled again."""
        owner = await self._browser.session_owner(request)
        await self._services.keys.disable(owner.account_id, key_id, caller(request))

    async def enable_key(self, key_id: str, request: Request) -> None:
        """Enable a key, unless an operator has disabled it."""
        owner = await self._browser.session_owner(request)
        await self._services.keys.enable(owner.account_id, key_id, caller(request))

    async def revoke_key(self, key_id: str, request: Request) -> None:
        """Revoke a key."""
        owner = await self._browser.session_owner(request)
        await self._services.keys.revoke(owner.account_id, key_id, caller(request))

    async def list_audit(
        self, request: Request, before: Annotated[int, Query(ge=1, le=TRAIL_END)] = TRAIL_END
    ) -> list[AuditFacts]:
        """Return a hundred events of the account, newest first: the latest ones, or those before a number."""
        owner = await self._browser.session_owner(request)
        lines = await self._services.accounts.audit_trail(owner.account_id, before)
        return [AuditFacts.model_validate(line, from_attributes=True) for line in lines]

    async def show_grant(self, user_code: str, request: Request) -> GrantFacts:
        """Return the device that shows a code."""
        owner = await self._browser.session_owner(request)
        self._browser.check_not_cross_site(request)
        grant = await self._services.device.look(user_code, owner.account_id, caller(request))
        return GrantFacts(
            user_code=shown(grant.user_code),
            client=grant.client,
            source_address=grant.source_address,
            started_at=grant.started_at,
            scopes=sorted(grant.scopes or self._services.policy.scopes),
        )

    async def approve(self, user_code: str, granted: GrantedScopes, request: Request) -> None:
        """Approve a device."""
        approval = Approval((await self._browser.session_owner(request)).account_id, granted.scopes)
        await self._services.device.approve(user_code, approval, caller(request))

    async def refuse(self, user_code: str, request: Request) -> None:
        """Refuse a device."""
        owner = await self._browser.session_owner(request)
        await self._services.device.refuse(user_code, owner.account_id, caller(request))

    def _facts(self, owner: Owner | None, secret: str) -> SessionFacts:
        return SessionFacts(
            account_id=owner.account_id if owner else "",
            email=owner.email if owner else "",
            email_verified=owner is not None and owner.email_verified_at is not None,
            csrf_token=self._browser.token(secret),
        )


def _key(key: ApiKey) -> KeyFacts:
    plain = {name: getattr(key, name) for name in ("id", "name", "hint", "created_at", "last_used_at", "expires_at")}
    return KeyFacts(**plain, state=state(key), scopes=sorted(key.scopes))
