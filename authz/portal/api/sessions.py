"""The sessions of an owner in JSON: list them, end one, end all others.

The session of the caller itself is in `dashboard.py`; the pages are `../pages/account.py`.
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel

from authz.portal.browser_sessions import BrowserSessions, caller
from authz.portal.services import Services

SessionId = Annotated[str, Path(description="The `id` of a listed session.", max_length=100)]


class OpenSessionFacts(BaseModel):
    """An open session; `id` identifies it within the account and grants nothing."""

    id: str
    started_at: datetime
    source_address: str
    browser: str
    is_current: bool


class EndedSessions(BaseModel):
    """How many sessions have ended."""

    ended: int


class SessionsApi:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._browser = BrowserSessions(services.sessions, services.public_url)
        self.router = APIRouter(prefix="/v1/dashboard", tags=["dashboard"])
        add, changes = self.router.add_api_route, [Depends(self._browser.check_header)]
        add("/sessions", self.list_sessions, methods=["GET"])
        add("/sessions:end-others", self.end_others, methods=["POST"], dependencies=changes)
        add("/sessions/{session_id}:end", self.end_session, methods=["POST"], dependencies=changes, status_code=204)

    async def list_sessions(self, request: Request) -> list[OpenSessionFacts]:
        """Return the open sessions of the account, newest first."""
        owner = await self._browser.session_owner(request)
        sessions = await self._services.sessions.listed(owner, self._browser.secret(request))
        return [OpenSessionFacts.model_validate(session, from_attributes=True) for session in sessions]

    async def end_session(self, session_id: SessionId, request: Request) -> None:
        """End a session, which may be the current one."""
        owner = await self._browser.session_owner(request)
        await self._services.sessions.end_listed(owner, session_id, caller(request))

    async def end_others(self, request: Request) -> EndedSessions:
        """End every session of the account except the current one."""
        owner = await self._browser.session_owner(request)
        ended = await self._services.sessions.end_others(owner, self._browser.secret(request), caller(request))
        return EndedSessions(ended=ended)
