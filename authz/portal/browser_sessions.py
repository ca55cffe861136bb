"""The session of a browser: one cookie, one form token derived from it, and redirects to own pages only.

The cookie grants nothing until a login replaces its secret with that of a session (`service/portal/sessions.py`).
"""

import hmac
import re
from hashlib import sha256

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from authz.core.errors import Refused
from authz.core.owners import Owner
from authz.service.portal.sessions import Sessions

HOME = "/dashboard/keys"
TOKEN_HEADER = "x-csrf-token"  # noqa: S105 -- a header's name

_SECRET = re.compile(r"[0-9A-Za-z_-]{43}")
_PORTAL_PAGE = re.compile(r"/(dashboard|device)(/[0-9a-z_/-]*)?(\?code=[0-9A-Za-z-]{1,16})?")
_PURPOSE = b"form token"
_SESSION, _FAMILIAR = "session", "browser"
_FAMILIAR_S = 180 * 86_400


class Forged(Refused):
    """A change that does not come from a page of the portal."""


class LoginNeeded(Exception):  # noqa: N818 -- named for what the visitor has to do
    """A page that needs a session; `next_page` is the requested page."""

    def __init__(self, next_page: str) -> None:
        super().__init__("log in first")
        self.next_page = next_page


class BrowserSessions:
    """Reads and writes the cookie. `public_url` is the origin of the pages."""

    def __init__(self, sessions: Sessions, public_url: str) -> None:
        self._sessions = sessions
        self._origin = public_url
        self._is_https = public_url.startswith("https:")
        self.cookie_name = _name(_SESSION, is_https=self._is_https)
        self._familiar_name = _name(_FAMILIAR, is_https=self._is_https)

    def secret(self, request: Request) -> str:
        """Return the secret in the cookie; without a valid one, a new secret without a session."""
        given = request.cookies.get(self.cookie_name, "")
        return given if _SECRET.fullmatch(given) else self._sessions.new_secret()

    def familiar(self, request: Request) -> str:
        """Return the token of a browser in which somebody has logged in before; empty without one."""
        return request.cookies.get(self._familiar_name, "")

    def remember(self, response: Response, token: str) -> None:
        """Set the token that identifies the browser at its next login."""
        self._set(response, self._familiar_name, token, age_s=_FAMILIAR_S)

    async def owner(self, request: Request) -> Owner | None:
        """Return the owner of the session; None without a session."""
        return await self._sessions.owner(self.secret(request))

    async def session_owner(self, request: Request) -> Owner:
        """Return the owner of the session; raises a 401 for a program."""
        owner = await self.owner(request)
        if owner is None:
            raise HTTPException(401, "log in first")
        return owner

    async def required_owner(self, request: Request) -> Owner:
        """Return the owner of the session; raises `LoginNeeded`, for a person."""
        owner = await self.owner(request)
        if owner is None:
            query = f"?{request.url.query}" if request.url.query else ""
            raise LoginNeeded(portal_page(f"{request.url.path}{query}" if request.method == "GET" else ""))
        request.state.owner = owner  # so that an error page can show the navigation
        return owner

    def token(self, secret: str) -> str:
        """Return the form token of this browser: an HMAC whose key is the secret of the cookie."""
        return hmac.new(secret.encode(), _PURPOSE, sha256).hexdigest()

    async def form(self, request: Request, *, needs_token: bool = True) -> FormData:
        """Return the fields of a submitted form; raises `Forged`. Files are refused.

        A form before a session needs no token if the browser names the portal as its origin: a second tab without a
        cookie has replaced the first tab's.
        """
        form = await request.form(max_files=0, max_fields=64)
        if needs_token or request.headers.get("origin") != self._origin or not self._is_from_here(request):
            self.check(request, text(form, "token"))
        return form

    def check(self, request: Request, token: str) -> None:
        """Raise `Forged` unless origin, fetch metadata and token show that a change comes from a page of the portal."""
        secret = request.cookies.get(self.cookie_name, "")
        is_ours = (
            self._is_from_here(request)
            and _SECRET.fullmatch(secret) is not None
            and hmac.compare_digest(token.encode(), self.token(secret).encode())
        )
        if not is_ours:
            raise Forged("this page is out of date; go back, reload it and try again")

    async def check_header(self, request: Request) -> None:
        """Raise `Forged` unless a change of a program in a browser comes from the portal; the token is in a header."""
        self.check(request, request.headers.get(TOKEN_HEADER, ""))

    def _is_from_here(self, request: Request) -> bool:
        origin = request.headers.get("origin", self._origin)
        return origin == self._origin and request.headers.get("sec-fetch-site", "same-origin") == "same-origin"

    def check_not_cross_site(self, request: Request) -> None:
        """Raise `Forged` for a request from another site, whose browser sends the cookie with a navigation."""
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            raise Forged("this request comes from another site")

    async def begin(self, request: Request, response: Response, owner: Owner) -> str:
        """Open a session under a new secret, set its cookie, and end the previous session."""
        await self._sessions.end(self.secret(request))
        secret = await self._sessions.open(owner, caller(request), user_agent(request))
        self.keep(response, secret)
        return secret

    async def end(self, request: Request, response: Response) -> None:
        """End the session."""
        await self._sessions.end(self.secret(request))
        response.delete_cookie(self.cookie_name, path="/", secure=self._is_https, httponly=True, samesite="lax")

    def keep(self, response: Response, secret: str) -> None:
        """Set the cookie, which lasts until the browser is closed."""
        self._set(response, self.cookie_name, secret)

    def _set(self, response: Response, name: str, value: str, *, age_s: int | None = None) -> None:
        # Not Secure on http, which is for loopback only: WebKit refuses Secure cookies there.
        response.set_cookie(name, value, path="/", max_age=age_s, secure=self._is_https, httponly=True, samesite="lax")


def caller(request: Request) -> str:
    """Return the address of the client, as `envoy_only.py` has set it."""
    return request.client.host if request.client else ""


def user_agent(request: Request) -> str:
    """Return what the browser calls itself."""
    return request.headers.get("user-agent", "")


def cookie_names(*, is_https: bool) -> frozenset[str]:
    """Return the names of all cookies of the portal."""
    return frozenset(_name(name, is_https=is_https) for name in (_SESSION, _FAMILIAR))


def _name(name: str, *, is_https: bool) -> str:
    # The prefix makes browsers refuse the cookie from any other host; it requires https.
    return f"__Host-{name}" if is_https else name


def portal_page(wanted: str) -> str:
    """Return the wanted page if it belongs to the portal, else the first page."""
    return wanted if _PORTAL_PAGE.fullmatch(wanted) and "//" not in wanted else HOME


def text(form: FormData, name: str) -> str:
    """Return one text field of a form; empty if it is missing or a file."""
    value = form.get(name, "")
    return "" if isinstance(value, UploadFile) else value
