"""The account pages: e-mail address, password and the audit trail.

Keys are `keys.py`; login and signup are `entry.py`.
"""

import re
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from authz.core.accounts import AuditEvent
from authz.core.errors import Refused
from authz.core.throttles import Attempt
from authz.portal.browser_sessions import HOME, caller, text
from authz.portal.pages.rendering import GET, Pages, redirect
from authz.portal.services import Services
from authz.service.portal.accounts import TRAIL_END, TRAIL_LINES_MAX
from authz.service.portal.notices import Notice

_DONE = {
    "password": "Your password has been changed, and every other session has ended.",
    "reset": "Your password has been changed, and every session of before has ended.",
    "email": "Links have been sent to both addresses. The address changes when both have been confirmed.",
    "ended": "The session has ended.",
    "others": "Every other session has ended.",
    "mailed": "A verification link has been sent.",
}

_LINE_NUMBER = re.compile(r"[0-9]{1,18}")
_EVENTS = {
    AuditEvent.KEY_MINTED_BY_LOGIN: "Key created by a login",
    AuditEvent.KEY_MINTED_BY_DEVICE: "Key created for a device",
}


class AccountPages:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._browser = pages.browser
        self._logins = pages.logins
        self.router = APIRouter(include_in_schema=False)
        add = self.router.add_api_route
        for path in ("/dashboard", "/dashboard/"):
            add(path, self.go_home, methods=GET)
        add("/dashboard/account", self.show_account, methods=GET)
        add("/dashboard/account/password", self.change_password, methods=["POST"])
        add("/dashboard/account/verification", self.mail_again, methods=["POST"])
        add("/dashboard/account/email", self.change_email, methods=["POST"])
        add("/dashboard/sessions", self.show_sessions, methods=GET)
        add("/dashboard/sessions", self.end_session, methods=["POST"])
        add("/dashboard/sessions/others", self.end_others, methods=["POST"])
        add("/dashboard/activity", self.show_activity, methods=GET)

    async def go_home(self) -> Response:
        """Redirect to the first page."""
        return redirect(HOME)

    async def show_account(self, request: Request) -> Response:
        """Show the e-mail address and the form for a new password."""
        owner = await self._browser.required_owner(request)
        done = _DONE.get(request.query_params.get("done", ""), "")
        return self._pages.show(request, "account", self._about(done), owner=owner)

    async def change_password(self, request: Request) -> Response:
        """Change the password; this browser continues with a new session."""
        owner = await self._browser.required_owner(request)
        form = await self._browser.form(request)
        current, new = text(form, "current"), text(form, "new")
        try:
            changed = await self._services.accounts.change_password(owner, current, new, caller(request))
        except Refused as error:
            return self._pages.show_again(request, "account", self._about(""), error, owner=owner)
        self._services.notices.tell(owner.account_id, Notice.PASSWORD_CHANGED, caller(request), "the account page")
        response = redirect("/dashboard/account?done=password")
        await self._logins.begin(request, response, changed)
        return response

    async def change_email(self, request: Request) -> Response:
        """Send the links that confirm another e-mail address."""
        owner = await self._browser.required_owner(request)
        form = await self._browser.form(request)
        email, password = text(form, "email"), text(form, "password")
        try:
            await self._services.email_changes.start(owner, email, password, caller(request))
        except Refused as error:
            return self._pages.show_again(request, "account", self._about(""), error, owner=owner)
        return redirect("/dashboard/account?done=email")

    async def show_sessions(self, request: Request) -> Response:
        """List the open sessions, each with a button that ends it."""
        owner = await self._browser.required_owner(request)
        sessions = await self._services.sessions.listed(owner, self._browser.secret(request))
        done = _DONE.get(request.query_params.get("done", ""), "")
        return self._pages.show(request, "sessions", {"sessions": sessions, "done": done}, owner=owner)

    async def end_session(self, request: Request) -> Response:
        """End one session of the owner, which may be the current one."""
        owner = await self._browser.required_owner(request)
        form = await self._browser.form(request)
        await self._services.sessions.end_listed(owner, text(form, "session"), caller(request))
        return redirect("/dashboard/sessions?done=ended")

    async def end_others(self, request: Request) -> Response:
        """End every session of the owner except the current one."""
        owner = await self._browser.required_owner(request)
        await self._browser.form(request)
        await self._services.sessions.end_others(owner, self._browser.secret(request), caller(request))
        return redirect("/dashboard/sessions?done=others")

    async def mail_again(self, request: Request) -> Response:
        """Send another verification link by mail."""
        owner = await self._browser.required_owner(request)
        await self._browser.form(request)
        if owner.email_verified_at is not None or not self._services.verification.is_possible:
            return redirect("/dashboard/account")
        try:
            attempt = Attempt.VERIFICATION_MAIL
            await self._services.gate.admit(attempt, address=caller(request), subject=owner.account_id)
        except Refused as error:
            return self._pages.show_again(request, "account", self._about(""), error, owner=owner)
        self._services.outgoing.start(partial(self._services.verification.send, owner))
        return redirect("/dashboard/account?done=mailed")

    async def show_activity(self, request: Request) -> Response:
        """Show one page of the audit trail."""
        owner = await self._browser.required_owner(request)
        before = request.query_params.get("before", "")
        start = int(before) if _LINE_NUMBER.fullmatch(before) else TRAIL_END
        lines = await self._services.accounts.audit_trail(owner.account_id, start)
        key_ids = {line.key_id for line in lines if line.key_id}
        names = await self._services.keys.names(owner.account_id, key_ids)
        older = lines[-1].number if len(lines) == TRAIL_LINES_MAX else 0
        about = {"lines": lines, "names": names, "older": older, "is_latest": start == TRAIL_END, "words": _EVENTS}
        return self._pages.show(request, "activity", about, owner=owner)

    def _about(self, done: str) -> dict[str, object]:
        return {
            "done": done,
            "password_chars_min": self._services.accounts.rules.chars_min,
            "can_mail": self._services.verification.is_possible,
        }
