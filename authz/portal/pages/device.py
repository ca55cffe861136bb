"""The pages on which an owner approves a device: enter its code, see the request, approve or refuse.

The rules are `service/portal/device.py`; the JSON form is `../api/dashboard.py`.
"""

from fastapi import APIRouter, Request
from starlette.datastructures import FormData
from starlette.responses import Response

from authz.core.device import Approval, Grant, shown
from authz.core.errors import CodeUnknown, Refused, Throttled
from authz.core.owners import Owner
from authz.portal.browser_sessions import caller, text
from authz.portal.pages.keys import chosen, scope_groups
from authz.portal.pages.rendering import GET, Pages
from authz.portal.services import Services


class DevicePages:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._browser = pages.browser
        self.router = APIRouter(include_in_schema=False)
        for path in ("/device", "/device/"):
            self.router.add_api_route(path, self.show_code, methods=GET)
        self.router.add_api_route("/device", self.look, methods=["POST"])
        self.router.add_api_route("/device/decision", self.decide, methods=["POST"])

    async def show_code(self, request: Request) -> Response:
        """Show the form for the code; a code from a link must still be submitted by the owner."""
        owner = await self._browser.required_owner(request)
        code = request.query_params.get("code", "")
        return self._pages.show(request, "device_code", {"code": code}, owner=owner)

    async def look(self, request: Request) -> Response:
        """Show which device requests access, and to what."""
        owner = await self._browser.required_owner(request)
        form = await self._browser.form(request)
        code = text(form, "code")
        try:
            grant = await self._services.device.look(code, owner.account_id, caller(request))
        except Refused as error:
            return self._pages.show_again(request, "device_code", {"code": code}, error, owner=owner)
        about = self._about(grant, request, grant.scopes or frozenset(self._services.policy.scopes))
        return self._pages.show(request, "device_grant", about, owner=owner)

    async def decide(self, request: Request) -> Response:
        """Approve or refuse a device, once."""
        owner = await self._browser.required_owner(request)
        form = await self._browser.form(request)
        is_approval = text(form, "decision") == "approve"
        try:
            await (self._approve if is_approval else self._refuse)(owner, form, caller(request))
        except (Throttled, CodeUnknown) as error:
            return self._pages.show_again(request, "device_code", {"code": text(form, "code")}, error, owner=owner)
        except Refused as error:
            return await self._show_grant_again(request, owner, form, error)
        return self._pages.show(request, "device_done", {"is_approval": is_approval}, owner=owner)

    async def _show_grant_again(self, request: Request, owner: Owner, form: FormData, error: Refused) -> Response:
        code = text(form, "code")
        try:
            grant = await self._services.device.look(code, owner.account_id, caller(request))
        except Refused:
            return self._pages.show_again(request, "device_code", {"code": code}, error, owner=owner)
        about = self._about(grant, request, chosen(form, "scope"))
        return self._pages.show_again(request, "device_grant", about, error, owner=owner)

    async def _approve(self, owner: Owner, form: FormData, address: str) -> None:
        if not text(form, "confirmed"):
            raise Refused("confirm that your device shows this code")
        approval = Approval(owner.account_id, chosen(form, "scope"))
        await self._services.device.approve(text(form, "code"), approval, address)

    async def _refuse(self, owner: Owner, form: FormData, address: str) -> None:
        await self._services.device.refuse(text(form, "code"), owner.account_id, address)

    def _about(self, grant: Grant, request: Request, ticked: frozenset[str]) -> dict[str, object]:
        return {
            "grant": grant,
            "code": shown(grant.user_code),
            "groups": scope_groups(self._services.policy, grant.scopes),
            "ticked": ticked,
            "is_elsewhere": grant.source_address != caller(request),
        }
