"""The pages about keys: list, create, rotate, disable, enable and revoke.

The rules are `service/keys/`; the JSON form is `../api/dashboard.py`.
"""

from datetime import UTC, datetime, timedelta
from itertools import groupby

from fastapi import APIRouter, Request
from starlette.datastructures import FormData
from starlette.responses import Response

from authz.core.accounts import ApiKey
from authz.core.errors import Refused
from authz.core.policy.policy import Policy, Scope
from authz.portal.browser_sessions import caller, text
from authz.portal.pages.rendering import GET, Pages, moment, redirect
from authz.portal.services import Services

_LIVES = {"7": "in 7 days", "30": "in 30 days", "90": "in 90 days", "365": "in a year", "": "never"}
_LIFE_DEFAULT = "90"
_OVERLAPS = {"0": "at once", "3600": "in an hour", "86400": "in a day", "604800": "in 7 days"}
_OVERLAP_DEFAULT = "86400"
_ENDED_MAX = 50
_ID_CHARS_MAX = 100
_DONE = {
    "revoked": "The key has been revoked. Nothing accepts it any more.",
    "disabled": "The key has been disabled. Nothing accepts it until you enable it again.",
    "enabled": "The key has been enabled and works again.",
}


class KeyPages:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._browser = pages.browser
        self.router = APIRouter(include_in_schema=False)
        add = self.router.add_api_route
        add("/dashboard/keys", self.show_keys, methods=GET)
        add("/dashboard/keys/new", self.show_new, methods=GET)
        add("/dashboard/keys/new", self.create, methods=["POST"])
        add("/dashboard/keys/{key_id}/rotate", self.show_rotate, methods=GET)
        add("/dashboard/keys/{key_id}/rotate", self.rotate, methods=["POST"])
        add("/dashboard/keys/{key_id}/disable", self.show_disable, methods=GET)
        add("/dashboard/keys/{key_id}/disable", self.disable, methods=["POST"])
        add("/dashboard/keys/{key_id}/enable", self.enable, methods=["POST"])
        add("/dashboard/keys/{key_id}/revoke", self.show_revoke, methods=GET)
        add("/dashboard/keys/{key_id}/revoke", self.revoke, methods=["POST"])

    async def show_keys(self, request: Request) -> Response:
        """List the account's live keys, and a page of those that have ended."""
        owner = await self._browser.required_owner(request)
        before = request.query_params.get("before", "")[:_ID_CHARS_MAX]
        keys = self._services.keys
        live = [] if before else await keys.live_keys(owner.account_id)
        ended = await keys.latest_keys(owner.account_id, before, _ENDED_MAX + 1, ended_only=True)
        about = {
            "live": live,
            "ended": ended[:_ENDED_MAX],
            "older": ended[_ENDED_MAX - 1].id if len(ended) > _ENDED_MAX else "",
            "is_latest": not before,
            "keys_max": self._services.policy.keys.active_max,
            "done": _DONE.get(request.query_params.get("done", ""), ""),
        }
        return self._pages.show(request, "keys", about, owner=owner)

    async def show_new(self, request: Request) -> Response:
        """Show the form for a new key."""
        owner = await self._browser.required_owner(request)
        about = self._about_form("", frozenset(), _LIFE_DEFAULT)
        return self._pages.show(request, "key_new", about, owner=owner)

    async def create(self, request: Request) -> Response:
        """Create a key and show its secret, this once."""
        owner = await self._browser.required_owner(request)
        form = await self._browser.form(request)
        name, scopes, life = text(form, "name"), chosen(form, "scope"), text(form, "life")
        try:
            expires_at = _expiry(life)
            made = await self._services.keys.create(owner.account_id, name, scopes, expires_at, caller(request))
        except Refused as error:
            about = self._about_form(name, scopes, life)
            return self._pages.show_again(request, "key_new", about, error, owner=owner)
        return self._pages.show(request, "key_made", {"made": made, "note": ""}, owner=owner)

    async def show_rotate(self, request: Request, key_id: str) -> Response:
        """Show the form for the rotation of a key."""
        owner = await self._browser.required_owner(request)
        key = await self._services.keys.key(owner.account_id, key_id)
        return self._pages.show(request, "key_rotate", _about_rotation(key), owner=owner)

    async def rotate(self, request: Request, key_id: str) -> Response:
        """Replace a key by a new one and show its secret, this once."""
        owner = await self._browser.required_owner(request)
        form = await self._browser.form(request)
        key = await self._services.keys.key(owner.account_id, key_id)
        try:
            overlap_s = _overlap_s(text(form, "overlap"))
            rotation = await self._services.keys.rotate(owner.account_id, key_id, overlap_s, caller(request))
        except Refused as error:
            return self._pages.show_again(request, "key_rotate", _about_rotation(key), error, owner=owner)
        note = "The old key has been revoked."
        if overlap_s and rotation.old.expires_at is not None:
            note = f"The old key works until {moment(rotation.old.expires_at)}."
        if rotation.pending:
            note = "The old key is being revoked: a store is unavailable, and the change is retried."
        return self._pages.show(request, "key_made", {"made": rotation.made, "note": note}, owner=owner)

    async def show_disable(self, request: Request, key_id: str) -> Response:
        """Show the confirmation for disabling a key."""
        owner = await self._browser.required_owner(request)
        key = await self._services.keys.key(owner.account_id, key_id)
        return self._pages.show(request, "key_disable", {"key": key}, owner=owner)

    async def disable(self, request: Request, key_id: str) -> Response:
        """Disable a key until it is enabled again."""
        owner = await self._browser.required_owner(request)
        await self._browser.form(request)
        await self._services.keys.disable(owner.account_id, key_id, caller(request))
        return redirect("/dashboard/keys?done=disabled")

    async def enable(self, request: Request, key_id: str) -> Response:
        """Enable a key; it needs no confirmation, because disabling reverts it."""
        owner = await self._browser.required_owner(request)
        await self._browser.form(request)
        await self._services.keys.enable(owner.account_id, key_id, caller(request))
        return redirect("/dashboard/keys?done=enabled")

    async def show_revoke(self, request: Request, key_id: str) -> Response:
        """Show the confirmation for revoking a key."""
        owner = await self._browser.required_owner(request)
        key = await self._services.keys.key(owner.account_id, key_id)
        return self._pages.show(request, "key_revoke", {"key": key}, owner=owner)

    async def revoke(self, request: Request, key_id: str) -> Response:
        """Revoke a key."""
        owner = await self._browser.required_owner(request)
        await self._browser.form(request)
        await self._services.keys.revoke(owner.account_id, key_id, caller(request))
        return redirect("/dashboard/keys?done=revoked")

    def _about_form(self, name: str, scopes: frozenset[str], life: str) -> dict[str, object]:
        groups = scope_groups(self._services.policy)
        return {"groups": groups, "lives": _LIVES, "name": name, "chosen": scopes, "life": life}


def scope_groups(policy: Policy, names: frozenset[str] = frozenset()) -> list[tuple[str, list[Scope]]]:
    """Return the scopes with these names, or all, grouped by resource, in the order of the policy."""
    offered = [scope for scope in policy.scopes.values() if not names or scope.name in names]
    by_resource = groupby(offered, key=lambda scope: scope.name.partition(":")[0])
    return [(resource, list(scopes)) for resource, scopes in by_resource]


def chosen(form: FormData, name: str) -> frozenset[str]:
    """Return every value of a repeated form field."""
    return frozenset(value for value in form.getlist(name) if isinstance(value, str))


def _about_rotation(key: ApiKey) -> dict[str, object]:
    return {"key": key, "overlaps": _OVERLAPS, "overlap": _OVERLAP_DEFAULT}


def _overlap_s(text: str) -> int:
    if text not in _OVERLAPS:
        raise Refused("choose when the old key stops working")
    return int(text)


def _expiry(life: str) -> datetime | None:
    if life not in _LIVES:
        raise Refused("choose when the key expires")
    return datetime.now(UTC) + timedelta(days=int(life)) if life else None
