"""The pages before a session: log in, sign up, confirm an address; and the way out."""

from fastapi import APIRouter, BackgroundTasks, Request
from starlette.responses import Response

from authz.core.accounts import AuditEvent
from authz.core.errors import Refused
from authz.portal.pages import GET, Pages, to
from authz.portal.public_api import caller, mail_link
from authz.portal.services import Services
from authz.portal.visits import HOME, own_page, text


class EntryPages:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._visits = pages.visits
        self.router = APIRouter(include_in_schema=False)
        for path, show, send in (
            ("login", self.show_login, self.log_in),
            ("signup", self.show_signup, self.sign_up),
            ("verify", self.show_verify, self.verify),
        ):
            self.router.add_api_route(f"/dashboard/{path}", show, methods=GET)
            self.router.add_api_route(f"/dashboard/{path}", send, methods=["POST"])
        self.router.add_api_route("/dashboard/logout", self.log_out, methods=["POST"])

    async def show_login(self, request: Request) -> Response:
        """Ask who someone is."""
        next_page = own_page(request.query_params.get("next", ""))
        if await self._visits.owner(request) is not None:
            return to(next_page)
        return self._pages.show(request, "login", {"next_page": next_page, "email": ""})

    async def log_in(self, request: Request) -> Response:
        """Begin a session for whoever knows the password."""
        form = await self._visits.form(request)
        email, next_page = text(form, "email"), own_page(text(form, "next"))
        address = caller(request)
        try:
            owner = await self._services.login.authenticate(email, text(form, "password"), address)
        except Refused as error:
            return self._pages.show_again(request, "login", {"next_page": next_page, "email": email}, error)
        await self._services.accounts.note(owner.account_id, AuditEvent.LOGGED_IN, address)
        response = to(next_page)
        await self._visits.begin(response, owner, self._visits.secret(request))
        return response

    async def show_signup(self, request: Request) -> Response:
        """Ask for an address and a password."""
        if await self._visits.owner(request) is not None:
            return to(HOME)
        return self._pages.show(request, "signup", self._about_signup(""))

    async def sign_up(self, request: Request, later: BackgroundTasks) -> Response:
        """Open an account and begin its first session."""
        form = await self._visits.form(request)
        email = text(form, "email")
        try:
            spelt = self._services.normalise_email(email)
            owner = await self._services.accounts.sign_up(spelt, text(form, "password"), caller(request))
        except Refused as error:
            return self._pages.show_again(request, "signup", self._about_signup(email), error)
        later.add_task(mail_link, self._services, owner)
        response = to(HOME)
        await self._visits.begin(response, owner, self._visits.secret(request))
        return response

    async def show_verify(self, request: Request) -> Response:
        """Ask for a press of a button: programs that look into mails follow links too."""
        code = request.query_params.get("code", "")
        return self._pages.show(
            request, "verify", {"code": code, "done": False}, owner=await self._visits.owner(request)
        )

    async def verify(self, request: Request) -> Response:
        """Take a link's code for proof of an address."""
        form = await self._visits.form(request)
        try:
            await self._services.verification.take(text(form, "code"), caller(request))
        except Refused as error:
            return self._pages.failure(request, error)
        return self._pages.show(request, "verify", {"code": "", "done": True}, owner=await self._visits.owner(request))

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        await self._visits.form(request)
        response = to("/dashboard/login")
        await self._visits.end(request, response)
        return response

    def _about_signup(self, email: str) -> dict[str, object]:
        return {"email": email, "password_chars_min": self._services.accounts.rules.chars_min}
