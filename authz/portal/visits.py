"""How a browser's session travels: one cookie, one form token made from it, and no page to go to but our own.

The cookie's secret opens nothing until a login has replaced it with that of a session (`service/sessions.py`).
"""

import hmac
import re
from hashlib import sha256

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response

from authz.core.errors import Refused
from authz.core.owners import Owner
from authz.service.portal.sessions import Sessions

HOME = "/dashboard/keys"
TOKEN_HEADER = "x-csrf-token"  # noqa: S105 -- a header's name

_SECRET = re.compile(r"[0-9A-Za-z_-]{43}")
_OWN_PAGE = re.compile(r"/(dashboard|device)(/[0-9a-z_/-]*)?(\?code=[0-9A-Za-z-]{1,16})?")
_PURPOSE = b"form token"


class Forged(Refused):
    """A change that did not come from one of our own pages."""


class LoginNeeded(Exception):  # noqa: N818 -- named for what the visitor has to do
    """A page that only owners see; `next_page` is where the visitor wanted to go."""

    def __init__(self, next_page: str) -> None:
        super().__init__("log in first")
        self.next_page = next_page


class Visits:
    """Reads and writes the cookie. `public_url` is the origin that our pages have."""

    def __init__(self, sessions: Sessions, public_url: str) -> None:
        self._sessions = sessions
        self._origin = public_url
        # The prefix makes browsers refuse the cookie from any other host, which plain HTTP cannot have.
        self.cookie_name = "__Host-session" if public_url.startswith("https:") else "session"

    def secret(self, request: Request) -> str:
        """Return what the browser presents; a new secret, which opens nothing, where it presents none."""
        given = request.cookies.get(self.cookie_name, "")
        return given if _SECRET.fullmatch(given) else self._sessions.new_secret()

    async def owner(self, request: Request) -> Owner | None:
        """Return whose session the request belongs to."""
        return await self._sessions.owner(self.secret(request))

    async def needed_owner(self, request: Request) -> Owner:
        """Return whose session the request belongs to; raises `LoginNeeded`."""
        owner = await self.owner(request)
        if owner is None:
            query = f"?{request.url.query}" if request.url.query else ""
            raise LoginNeeded(own_page(f"{request.url.path}{query}" if request.method == "GET" else ""))
        request.state.owner = owner  # so that a page about a failure can still show the way around
        return owner

    def token(self, secret: str) -> str:
        """Return the token that a form of this browser carries: only who can read the cookie could make it."""
        return hmac.new(secret.encode(), _PURPOSE, sha256).hexdigest()

    async def form(self, request: Request) -> FormData:
        """Return what a form of ours sent; raises `Forged`. Files are no part of any form."""
        form = await request.form(max_files=0, max_fields=64)
        self.check(request, text(form, "token"))
        return form

    def check(self, request: Request, token: str) -> None:
        """Raise `Forged` unless a change comes from our own pages, by all that the browser tells of it."""
        secret = request.cookies.get(self.cookie_name, "")
        is_ours = (
            request.headers.get("origin", self._origin) == self._origin
            and request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
            and _SECRET.fullmatch(secret) is not None
            and hmac.compare_digest(token.encode(), self.token(secret).encode())
        )
        if not is_ours:
            raise Forged("this page is out of date; go back, reload it and try again")

    async def begin(self, response: Response, owner: Owner, replaced: str) -> str:
        """Begin a session in the browser under a secret that nobody has seen, and end the one of before."""
        await self._sessions.end(replaced)
        secret = await self._sessions.open(owner)
        self.keep(response, secret)
        return secret

    async def end(self, request: Request, response: Response) -> None:
        """End the session."""
        await self._sessions.end(self.secret(request))
        response.delete_cookie(self.cookie_name, path="/", secure=True, httponly=True, samesite="lax")

    def keep(self, response: Response, secret: str) -> None:
        """Give the browser its secret to keep until it is closed."""
        response.set_cookie(self.cookie_name, secret, path="/", secure=True, httponly=True, samesite="lax")


def own_page(wanted: str) -> str:
    """Return the page to go on to, which is one of ours whatever was asked for."""
    return wanted if _OWN_PAGE.fullmatch(wanted) and "//" not in wanted else HOME


def text(form: FormData, name: str) -> str:
    """Return one field of a form; empty where it is missing or no text."""
    value = form.get(name, "")
    return "" if isinstance(value, UploadFile) else value
