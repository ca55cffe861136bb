"""The dashboard in JSON, for programs that run in a browser: what its pages do, under `/v1/dashboard`.

It knows the same sessions as the pages and asks for the same token with every change, in a header.
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field
from starlette.exceptions import HTTPException

from authz.core.accounts import ApiKey, AuditEvent
from authz.core.device import Approval, shown
from authz.core.owners import Owner
from authz.portal.pages import state
from authz.portal.public_api import Credentials, Text, caller
from authz.portal.services import Services
from authz.portal.visits import TOKEN_HEADER, Visits
from authz.service.portal.accounts import TRAIL_END


class SessionFacts(BaseModel):
    """Who is logged in, and the token that every change has to carry as `x-csrf-token`."""

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
    """A fresh key, with its secret: shown this once."""

    api_key: str = Field(repr=False)
    key: KeyFacts


class WantedKey(BaseModel):
    """What a new key is to be."""

    name: Text
    scopes: frozenset[Text]
    expires_at: AwareDatetime | None = None


class WantedRotation(BaseModel):
    """How long the key that is replaced goes on working."""

    overlap_s: int = Field(ge=0)


class AuditFacts(BaseModel):
    """Something that happened to the account; `number` is higher the later that was."""

    number: int
    at: datetime
    event: str
    actor: str
    source_address: str
    key_id: str | None


class GrantFacts(BaseModel):
    """A device that asks to be let in."""

    user_code: str
    client: str
    source_address: str
    started_at: datetime


class GrantedScopes(BaseModel):
    """What a device may do."""

    scopes: frozenset[Text]


class SessionApi:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._visits = Visits(services.sessions, services.public_url)
        self.router = APIRouter(prefix="/v1/dashboard", tags=["dashboard"])
        add, changes = self.router.add_api_route, [Depends(self.from_our_pages)]
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

    async def from_our_pages(self, request: Request) -> None:
        """Let only changes pass that come from our own origin."""
        self._visits.check(request, request.headers.get(TOKEN_HEADER, ""))

    async def show_session(self, request: Request, response: Response) -> SessionFacts:
        """Tell who is logged in; before a login, account and address are empty and the token is that for the login."""
        secret, owner = self._visits.secret(request), await self._visits.owner(request)
        if request.cookies.get(self._visits.cookie_name) != secret:
            self._visits.keep(response, secret)
        return self._facts(owner, secret)

    async def log_in(self, given: Credentials, request: Request, response: Response) -> SessionFacts:
        """Begin a session for whoever knows the password; its token is another than before."""
        owner = await self._services.login.authenticate(given.email, given.password, caller(request))
        await self._services.accounts.note(owner.account_id, AuditEvent.LOGGED_IN, caller(request))
        secret = await self._visits.begin(response, owner, self._visits.secret(request))
        return self._facts(owner, secret)

    async def log_out(self, request: Request, response: Response) -> None:
        """End the session."""
        await self._visits.end(request, response)

    async def list_keys(self, request: Request) -> list[KeyFacts]:
        """Return the account's keys, newest first."""
        owner = await self._owner(request)
        return [_key(key) for key in await self._services.keys.keys(owner.account_id)]

    async def create_key(self, wanted: WantedKey, request: Request) -> MadeKey:
        """Make a key."""
        account_id, address = (await self._owner(request)).account_id, caller(request)
        made = await self._services.keys.create(account_id, wanted.name, wanted.scopes, wanted.expires_at, address)
        return MadeKey(api_key=made.secret, key=_key(made.key))

    async def rotate_key(self, key_id: str, wanted: WantedRotation, request: Request) -> MadeKey:
        """Put a new key in a key's place."""
        account_id, address = (await self._owner(request)).account_id, caller(request)
        made = (await self._services.keys.rotate(account_id, key_id, wanted.overlap_s, address)).made
        return MadeKey(api_key=made.secret, key=_key(made.key))

    async def disable_key(self, key_id: str, request: Request) -> None:
        """Stop a key until it is enabled again."""
        owner = await self._owner(request)
        await self._services.keys.disable(owner.account_id, key_id, caller(request))

    async def enable_key(self, key_id: str, request: Request) -> None:
        """Let a key work again that was not disabled by an operator."""
        owner = await self._owner(request)
        await self._services.keys.enable(owner.account_id, key_id, caller(request))

    async def revoke_key(self, key_id: str, request: Request) -> None:
        """End a key for good."""
        owner = await self._owner(request)
        await self._services.keys.revoke(owner.account_id, key_id, caller(request))

    async def list_audit(
        self, request: Request, before: Annotated[int, Query(ge=1, le=TRAIL_END)] = TRAIL_END
    ) -> list[AuditFacts]:
        """Return what happened to the account, newest first: the latest hundred lines, or those before a number."""
        owner = await self._owner(request)
        lines = await self._services.accounts.audit_trail(owner.account_id, before)
        return [AuditFacts.model_validate(line, from_attributes=True) for line in lines]

    async def show_grant(self, user_code: str, request: Request) -> GrantFacts:
        """Show which device asks by a code."""
        owner = await self._owner(request)
        grant = await self._services.device.look(user_code, owner.account_id, caller(request))
        facts = GrantFacts.model_validate(grant, from_attributes=True)
        return facts.model_copy(update={"user_code": shown(grant.user_code)})

    async def approve(self, user_code: str, granted: GrantedScopes, request: Request) -> None:
        """Let a device in."""
        approval = Approval((await self._owner(request)).account_id, granted.scopes)
        await self._services.device.approve(user_code, approval, caller(request))

    async def refuse(self, user_code: str, request: Request) -> None:
        """Refuse a device."""
        owner = await self._owner(request)
        await self._services.device.refuse(user_code, owner.account_id, caller(request))

    async def _owner(self, request: Request) -> Owner:
        owner = await self._visits.owner(request)
        if owner is None:
            raise HTTPException(401, "log in first")
        return owner

    def _facts(self, owner: Owner | None, secret: str) -> SessionFacts:
        return SessionFacts(
            account_id=owner.account_id if owner else "",
            email=owner.email if owner else "",
            email_verified=owner is not None and owner.email_verified_at is not None,
            csrf_token=self._visits.token(secret),
        )


def _key(key: ApiKey) -> KeyFacts:
    plain = {name: getattr(key, name) for name in ("id", "name", "hint", "created_at", "last_used_at", "expires_at")}
    return KeyFacts(**plain, state=state(key), scopes=sorted(key.scopes))
