"""Renders the pages of the dashboard and sets the session cookie and the form token.

The content is in `templates/`; a page loads nothing from another origin.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias

from fastapi import APIRouter, Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from authz.core.accounts import ApiKey
from authz.core.errors import StoreUnavailable
from authz.core.owners import Owner
from authz.portal.browser_logins import BrowserLogins
from authz.portal.browser_sessions import BrowserSessions
from authz.portal.error_responses import described
from authz.portal.services import Services

GET = ["GET", "HEAD"]

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

_SEE_OTHER = 303
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def add_form(router: APIRouter, path: str, show: Endpoint, send: Endpoint) -> None:
    """Serve a page that is a form, and what the form sends."""
    router.add_api_route(path, show, methods=GET)
    router.add_api_route(path, send, methods=["POST"])


class Pages:
    """Creates HTML responses."""

    def __init__(self, services: Services) -> None:
        self.browser = BrowserSessions(services.sessions, services.public_url)
        self.logins = BrowserLogins(services, self.browser)
        self._templates = Environment(
            loader=PackageLoader("authz.portal"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"moment": moment, "ago": ago, "state": state}
        self._templates.globals |= {"api_name": services.policy.api, "all_scopes": services.policy.scopes}

    def show(
        self,
        request: Request,
        template: str,
        about: Mapping[str, object],
        *,
        owner: Owner | None = None,
        status: int = 200,
    ) -> HTMLResponse:
        """Render a template with the variables `about`."""
        secret = self.browser.secret(request)
        frame = {"owner": owner, "token": self.browser.token(secret), "path": request.url.path, "error": ""}
        text = self._templates.get_template(f"{template}.html").render({**frame, **about})
        response = HTMLResponse(text, status_code=status)
        if request.cookies.get(self.browser.cookie_name) != secret:
            self.browser.keep(response, secret)
        return response

    def show_again(
        self,
        request: Request,
        template: str,
        about: Mapping[str, object],
        error: Exception,
        *,
        owner: Owner | None = None,
    ) -> HTMLResponse:
        """Render a form again, with its error."""
        status, words, headers = described(error)
        response = self.show(request, template, {**about, "error": words}, owner=owner, status=status)
        response.headers.update(headers)
        return response

    def failure(self, request: Request, error: Exception) -> HTMLResponse:
        """Render an error as a page."""
        status, words, headers = described(error)
        owner = getattr(request.state, "owner", None)
        about = {"words": words, "can_retry": isinstance(error, StoreUnavailable)}
        response = self.show(request, "failure", about, owner=owner, status=status)
        response.headers.update(headers)
        return response


def redirect(path: str) -> Response:
    """Redirect to another page of the portal, with a GET (303)."""
    return RedirectResponse(path, status_code=_SEE_OTHER)


def moment(at: datetime) -> str:
    """Format a time in UTC; a line may break only between date and hour."""
    day, hour = f"{at.astimezone(UTC):%-d %b %Y,|%H:%M UTC}".replace(" ", "\N{NO-BREAK SPACE}").split("|")
    return f"{day} {hour}"


def ago(at: datetime) -> str:
    """Format an elapsed time in its largest unit."""
    elapsed_s = max(0, (datetime.now(UTC) - at).total_seconds())
    if elapsed_s < _MINUTE_S:
        return "less than a minute ago"
    for unit_s, unit in ((_DAY_S, "day"), (_HOUR_S, "hour"), (_MINUTE_S, "minute")):
        if elapsed_s >= unit_s:
            count = int(elapsed_s // unit_s)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return ""


def state(key: ApiKey) -> str:
    """Return the state of a key: active, disabled, expired or revoked."""
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        return "expired"
    return "disabled" if key.disabled_at is not None else "active"
