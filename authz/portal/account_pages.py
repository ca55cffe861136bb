"""The pages about an account itself: its address and password, and what has happened to it."""

import re

from fastapi import APIRouter, BackgroundTasks, Request
from starlette.responses import Response

from authz.core.accounts import AuditEvent
from authz.core.errors import Refused
from authz.core.throttles import Attempt
from authz.portal.pages import GET, Pages, to
from authz.portal.public_api import caller, mail_link
from authz.portal.services import Services
from authz.portal.visits import HOME, text
from authz.service.portal.accounts import TRAIL_END, TRAIL_LINES_MAX

_DONE = {
    "password": "Your password has been changed, and every other session has ended.",
    "mailed": "A link is on its way.",
}

_LINE_NUMBER = re.compile(r"[0-9]{1,18}")
_EVENTS = {
    AuditEvent.KEY_MINTED_BY_LOGIN: "Key made at a login",
    AuditEvent.KEY_MINTED_BY_DEVICE: "Key given to a device",
}


class AccountPages:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._visits = pages.visits
        self.router = APIRouter(include_in_schema=False)
        add = self.router.add_api_route
        for path in ("/dashboard", "/dashboard/"):
            add(path, self.go_home, methods=GET)
        add("/dashboard/account", self.show_account, methods=GET)
        add("/dashboard/account/password", self.change_password, methods=["POST"])
        add("/dashboard/account/verification", self.mail_again, methods=["POST"])
        add("/dashboard/activity", self.show_activity, methods=GET)

    async def go_home(self) -> Response:
        """Send the browser to the first page."""
        return to(HOME)

    async def show_account(self, request: Request) -> Response:
        """Show the address and let the password be changed."""
        owner = await self._visits.needed_owner(request)
        done = _DONE.get(request.query_params.get("done", ""), "")
        return self._pages.show(request, "account", self._about(done), owner=owner)

    async def change_password(self, request: Request) -> Response:
        """Change the password; the browser that did it goes on with a new session."""
        owner = await self._visits.needed_owner(request)
        form = await self._visits.form(request)
        current, new = text(form, "current"), text(form, "new")
        try:
            changed = await self._services.accounts.change_password(owner, current, new, caller(request))
        except Refused as error:
            return self._pages.show_again(request, "account", self._about(""), error, owner=owner)
        response = to("/dashboard/account?done=password")
        await self._visits.begin(response, changed, self._visits.secret(request))
        return response

    async def mail_again(self, request: Request, later: BackgroundTasks) -> Response:
        """Mail another verification link."""
        owner = await self._visits.needed_owner(request)
        await self._visits.form(request)
        if owner.email_verified_at is not None or not self._services.verification.is_possible:
            return to("/dashboard/account")
        try:
            attempt = Attempt.VERIFICATION_MAIL
            await self._services.gate.admit(attempt, address=caller(request), subject=owner.account_id)
        except Refused as error:
            return self._pages.show_again(request, "account", self._about(""), error, owner=owner)
        later.add_task(mail_link, self._services, owner)
        return to("/dashboard/account?done=mailed")

    async def show_activity(self, request: Request) -> Response:
        """Show the audit trail, a page at a time."""
        owner = await self._visits.needed_owner(request)
        before = request.query_params.get("before", "")
        start = int(before) if _LINE_NUMBER.fullmatch(before) else TRAIL_END
        lines = await self._services.accounts.audit_trail(owner.account_id, start)
        names = {key.id: key.name for key in await self._services.keys.keys(owner.account_id)}
        older = lines[-1].number if len(lines) == TRAIL_LINES_MAX else 0
        about = {"lines": lines, "names": names, "older": older, "is_latest": start == TRAIL_END, "words": _EVENTS}
        return self._pages.show(request, "activity", about, owner=owner)

    def _about(self, done: str) -> dict[str, object]:
        return {
            "done": done,
            "password_chars_min": self._services.accounts.rules.chars_min,
            "can_mail": self._services.verification.is_possible,
        }
