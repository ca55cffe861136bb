"""The pages without a session: login, signup and e-mail verification; also logout.

The rules are in `service/portal/`; the JSON form of login is `../api/dashboard.py`.
"""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from authz.core.errors import Refused
from authz.core.owners import Owner
from authz.portal.browser_sessions import HOME, caller, portal_page, text
from authz.portal.pages.rendering import Pages, add_form, redirect
from authz.portal.services import Services


class EntryPages:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._browser = pages.browser
        self._logins = pages.logins
        self.router = APIRouter(include_in_schema=False)
        add_form(self.router, "/dashboard/login", self.show_login, self.log_in)
        add_form(self.router, "/dashboard/signup", self.show_signup, self.sign_up)
        add_form(self.router, "/dashboard/verify", self.show_verify, self.verify)
        self.router.add_api_route("/dashboard/logout", self.log_out, methods=["POST"])

    async def show_login(self, request: Request) -> Response:
        """Show the login form."""
        next_page = portal_page(request.query_params.get("next", ""))
        if await self._browser.owner(request) is not None:
            return redirect(next_page)
        return self._pages.show(request, "login", self._about_login("", next_page))

    async def log_in(self, request: Request) -> Response:
        """Check the password and open a session."""
        form = await self._browser.form(request, needs_token=False)
        email, next_page = text(form, "email"), portal_page(text(form, "next"))
        try:
            owner = await self._logins.authenticate(request, email, text(form, "password"))
        except Refused as error:
            return self._pages.show_again(request, "login", self._about_login(email, next_page), error)
        response = redirect(next_page)
        await self._logins.begin(request, response, owner)
        return response

    async def show_signup(self, request: Request) -> Response:
        """Show the signup form."""
        if await self._browser.owner(request) is not None:
            return redirect(HOME)
        return self._pages.show(request, "signup", self._about_signup(""))

    async def sign_up(self, request: Request) -> Response:
        """Create an account and open its first session."""
        form = await self._browser.form(request, needs_token=False)
        email = text(form, "email")
        try:
            owner = await self._services.accounts.sign_up(email, text(form, "password"), caller(request))
        except Refused as error:
            return self._pages.show_again(request, "signup", self._about_signup(email), error)
        self._services.outgoing.start(partial(self._services.verification.send, owner))
        response = redirect(HOME)
        await self._logins.begin(request, response, owner)
        return response

    async def show_verify(self, request: Request) -> Response:
        """Show what is confirmed, and a button: mail scanners follow links, but do not press buttons."""
        code = request.query_params.get("code", "")
        try:
            named: Owner | None = await self._services.verification.owner(code)
        except Refused:
            named = None
        about = {"code": code, "named": named, "done": False}
        return self._pages.show(request, "verify", about, owner=await self._browser.owner(request))

    async def verify(self, request: Request) -> Response:
        """Verify an e-mail address by the code of a link."""
        form = await self._browser.form(request)
        try:
            named = await self._services.verification.take(text(form, "code"), caller(request))
        except Refused as error:
            return self._pages.failure(request, error)
        about = {"code": "", "named": named, "done": True}
        response = self._pages.show(request, "verify", about, owner=await self._browser.owner(request))
        self._logins.remember(response, named)  # who reads the owner's mail is no stranger
        return response

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        await self._browser.form(request)
        response = redirect("/dashboard/login")
        await self._browser.end(request, response)
        return response

    def _about_signup(self, email: str) -> dict[str, object]:
        return {"email": email, "password_chars_min": self._services.accounts.rules.chars_min}

    def _about_login(self, email: str, next_page: str) -> dict[str, object]:
        return {"next_page": next_page, "email": email, "can_reset": self._services.password_reset.is_possible}
