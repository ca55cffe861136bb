"""The pages behind mailed links: a forgotten password, and the confirmation of another e-mail address.

A link shows a form and changes nothing: mail scanners follow links, but do not press buttons.
"""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authz.core.errors import Refused
from authz.portal.browser_sessions import caller, text
from authz.portal.pages.rendering import Pages, add_form, redirect
from authz.portal.services import Services


class RecoveryPages:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._browser = pages.browser
        self._logins = pages.logins
        self.router = APIRouter(include_in_schema=False)
        add_form(self.router, "/dashboard/forgotten", self.show_forgotten, self.request_link)
        add_form(self.router, "/dashboard/reset", self.show_reset, self.reset)
        add_form(self.router, "/dashboard/email", self.show_email, self.confirm_email)

    async def show_forgotten(self, request: Request) -> Response:
        """Show the form that requests a link."""
        return self._pages.show(request, "forgotten", {"email": "", "is_sent": False})

    async def request_link(self, request: Request) -> Response:
        """Send a link, if the address has an owner; the response is the same if it has none."""
        form = await self._browser.form(request, needs_token=False)
        email = text(form, "email")
        try:
            await self._services.password_reset.request(email, caller(request))
        except Refused as error:
            return self._pages.show_again(request, "forgotten", {"email": email, "is_sent": False}, error)
        return self._pages.show(request, "forgotten", {"email": "", "is_sent": True})

    async def show_reset(self, request: Request) -> Response:
        """Show the form for a new password."""
        code = request.query_params.get("code", "")
        try:
            owner = await self._services.password_reset.owner(code)
        except Refused as error:
            return self._pages.failure(request, error)
        return self._pages.show(request, "reset", self._about_reset(code, owner.email))

    async def reset(self, request: Request) -> Response:
        """Set a new password; this browser continues with a new session, every other one has ended."""
        form = await self._browser.form(request)
        code = text(form, "code")
        try:
            owner = await self._services.password_reset.take(code, text(form, "new"), caller(request))
        except Refused as error:
            try:
                email = (await self._services.password_reset.owner(code)).email
            except Refused:
                return self._pages.failure(request, error)
            return self._pages.show_again(request, "reset", self._about_reset(code, email), error)
        response = redirect("/dashboard/account?done=reset")
        await self._logins.begin(request, response, owner)
        return response

    async def show_email(self, request: Request) -> Response:
        """Show which change a link confirms, and a button."""
        code = request.query_params.get("code", "")
        try:
            change = await self._services.email_changes.change(code)
        except Refused as error:
            return self._pages.failure(request, error)
        about = {"code": code, "change": change, "is_confirmed": False}
        return self._pages.show(request, "email", about, owner=await self._browser.owner(request))

    async def confirm_email(self, request: Request) -> Response:
        """Confirm a change for one address; after both it takes effect."""
        form = await self._browser.form(request)
        try:
            change = await self._services.email_changes.confirm(text(form, "code"), caller(request))
        except Refused as error:
            return self._pages.failure(request, error)
        about = {"code": "", "change": change, "is_confirmed": True}
        owner = await self._browser.owner(request)
        response = self._pages.show(request, "email", about, owner=owner)
        if owner is not None and owner.account_id == change.account_id:
            self._logins.remember(response, owner)  # a browser is familiar by the address, which may be another now
        return response

    def _about_reset(self, code: str, email: str) -> dict[str, object]:
        return {"code": code, "email": email, "password_chars_min": self._services.accounts.rules.chars_min}
