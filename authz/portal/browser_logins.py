"""What every way into the dashboard ends with: a new session, and a browser that is familiar from then on.

The cookies are `browser_sessions.py`; whether somebody may log in is decided in `service/portal/`.
"""

from fastapi import Request
from starlette.responses import Response

from authz.core.accounts import AuditEvent
from authz.core.owners import Owner
from authz.portal.browser_sessions import BrowserSessions, caller, user_agent
from authz.portal.services import Services
from authz.service.portal.notices import Notice


class BrowserLogins:
    """Logs owners in, for the pages and the JSON API alike."""

    def __init__(self, services: Services, browser: BrowserSessions) -> None:
        self._services = services
        self._browser = browser

    async def authenticate(self, request: Request, email: str, password: str) -> Owner:
        """Return the owner with these credentials; raises `WrongCredentials` and `Throttled`.

        The login is noted in the audit trail, and one from an unfamiliar browser is mailed to the owner.
        """
        address, familiar = caller(request), self._browser.familiar(request)
        owner = await self._services.login.authenticate(email, password, address, familiar)
        await self._services.accounts.note(owner.account_id, AuditEvent.LOGGED_IN, address)
        if not self._services.login.is_familiar(owner, familiar):
            self._services.notices.tell(owner.account_id, Notice.NEW_DEVICE, address, user_agent(request))
        return owner

    async def begin(self, request: Request, response: Response, owner: Owner) -> str:
        """Open a session in a browser that is familiar from now on, and return its secret."""
        self.remember(response, owner)
        return await self._browser.begin(request, response, owner)

    def remember(self, response: Response, owner: Owner) -> None:
        """Make the browser familiar: wrong passwords of strangers do not lock its owner out."""
        self._browser.remember(response, self._services.login.familiar_browser(owner))
