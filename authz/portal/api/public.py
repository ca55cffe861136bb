"""The routes for commands and SDKs: signup, login and `whoami`.

Error texts, statuses and fields are a contract with published clients. The device flow is
`device.py`; the use cases are in `service/portal/`.
"""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Request
from pydantic import AfterValidator, BaseModel, Field
from starlette.exceptions import HTTPException

from authz.core.accounts import Actor
from authz.core.owners import Owner
from authz.portal.browser_sessions import caller
from authz.portal.services import Services

WHO_AM_I = "/v1/whoami"
"""The one keyed route of the portal: its errors have the format of the API, not that of the public routes."""


def _encodable(text: str) -> str:
    text.encode()  # raises a ValueError for an unpaired surrogate, which JSON can hold and UTF-8 cannot
    return text


Text = Annotated[str, AfterValidator(_encodable)]


class Credentials(BaseModel):
    """An e-mail address and its password."""

    email: Text
    password: Text = Field(repr=False)


class LoggedIn(BaseModel):
    """A new key, shown only once, and its account."""

    api_key: str = Field(repr=False)
    account_id: str
    email: str
    email_verified: bool


class WhoAmI(BaseModel):
    """The account of the key that a request carried."""

    accountId: str  # noqa: N815 -- the contract's spelling
    email: str
    emailVerified: bool  # noqa: N815 -- the same


class PublicApi:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.router = APIRouter(tags=["public"])
        add = self.router.add_api_route
        add("/v1/public/signup", self.sign_up, methods=["POST"])
        add("/v1/public/login", self.log_in, methods=["POST"])
        add(WHO_AM_I, self.who_am_i, methods=["GET"])

    async def sign_up(self, wanted: Credentials, request: Request) -> LoggedIn:
        """Create an account and its first key."""
        address = caller(request)
        owner = await self._services.accounts.sign_up(wanted.email, wanted.password, address)
        self._services.outgoing.start(partial(self._services.verification.send, owner))
        return await self._with_key(owner, "signup", address)

    async def log_in(self, given: Credentials, request: Request) -> LoggedIn:
        """Check the password and create a key."""
        address = caller(request)
        owner = await self._services.login.authenticate(given.email, given.password, address)
        return await self._with_key(owner, "login", address)

    async def who_am_i(self, x_authz_account_id: Annotated[str, Header(include_in_schema=False)] = "") -> WhoAmI:
        """Return the account of the key, which authz has verified."""
        if not x_authz_account_id:
            raise HTTPException(401, "invalid or missing api key")
        contact = await self._services.accounts.contact(x_authz_account_id)
        return WhoAmI(accountId=x_authz_account_id, email=contact.email, emailVerified=contact.is_verified)

    async def _with_key(self, owner: Owner, name: str, address: str) -> LoggedIn:
        made = await self._services.minting.mint(owner.account_id, name, Actor(f"owner:{owner.account_id}", address))
        return LoggedIn(
            api_key=made.secret,
            account_id=owner.account_id,
            email=owner.email,
            email_verified=owner.email_verified_at is not None,
        )
