"""The device flow for commands and SDKs, in two dialects: the older JSON one, and RFC 8628.

A request with `client_id` or `grant_type`, or a form, is RFC 8628, and its errors are too. The approval is
`../pages/device.py`, the rules are `service/portal/device.py`.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from authz.core.device import GrantStatus, Polled, shown
from authz.core.errors import KeyLimitReached, ScopeUnknown, Throttled
from authz.portal.browser_sessions import caller
from authz.portal.services import Services
from authz.service.portal.device import GRANT_LIFE_S, POLL_INTERVAL_S

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
TOKEN_TYPE = "api_key"  # noqa: S105 -- RFC 6749's token_type: such a key is no bearer token, but has a header of its own
_FORM = "application/x-www-form-urlencoded"
_FIELDS_MAX = 16
_BAD_REQUEST = 400
_DESCRIPTION_CHARS_MAX = 200
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")  # what RFC 6749 excludes from an error_description


class DeviceStarted(BaseModel):
    """The codes of a device grant: the device keeps `device_code` and shows `user_code`."""

    device_code: str = Field(repr=False)
    user_code: str
    verify_url: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class DeviceStatus(BaseModel):
    """The status of a device grant; `approved` carries the key, once."""

    status: Literal["pending", "approved", "expired"]
    api_key: str | None = Field(None, repr=False)


class DeviceToken(BaseModel):
    """The key of an approved device, by the names of RFC 8628."""

    access_token: str = Field(repr=False)
    token_type: str


class DeviceError(BaseModel):
    """An error of RFC 8628."""

    error: str
    error_description: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """The fields of a request, and whether it is RFC 8628."""

    fields: dict[str, Any]
    is_rfc: bool

    def text(self, name: str) -> str:
        """Return a text field; empty if it is missing or no text."""
        value = self.fields.get(name)
        return value if isinstance(value, str) and _is_encodable(value) else ""


class DeviceApi:
    """The endpoints, over the use cases."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.router = APIRouter(tags=["public"])
        errors: dict[int | str, dict[str, Any]] = {_BAD_REQUEST: {"model": DeviceError}}
        self.router.add_api_route(
            "/v1/public/device/start",
            self.start,
            methods=["POST"],
            response_model=DeviceStarted,
            responses=errors,
            openapi_extra=_body({"client_id": "", "scope": "The requested scopes, separated by spaces."}),
        )
        self.router.add_api_route(
            "/v1/public/device/poll",
            self.poll,
            methods=["POST"],
            response_model=DeviceStatus | DeviceToken,
            responses=errors,
            openapi_extra=_body({"device_code": "", "grant_type": GRANT_TYPE, "client_id": ""}, required="device_code"),
        )

    async def start(self, request: Request) -> Response:
        """Start a device grant; a body that cannot be read is like an empty one."""
        received = await _received(request)
        scopes = frozenset(received.text("scope").split())
        try:
            started = await self._services.device.start(caller(request), request.headers.get("user-agent", ""), scopes)
        except ScopeUnknown as error:
            return _error("invalid_scope", str(error))
        page, code = f"{self._services.public_url}/device", shown(started.user_code)
        answer = DeviceStarted(
            device_code=started.device_code,
            user_code=code,
            verify_url=page,
            verification_uri=page,
            verification_uri_complete=f"{page}?code={code}",
            expires_in=GRANT_LIFE_S,
            interval=POLL_INTERVAL_S,
        )
        return JSONResponse(answer.model_dump())

    async def poll(self, request: Request) -> Response:
        """Return the status of a device grant, and its key once it is approved."""
        received = await _received(request)
        device_code = received.text("device_code")
        if not received.is_rfc:
            if not device_code:
                raise RequestValidationError([])
            return _status(await self._services.device.poll(device_code, caller(request)))
        grant_type = received.text("grant_type")
        if grant_type and grant_type != GRANT_TYPE:
            return _error("unsupported_grant_type", f"the grant_type is {GRANT_TYPE}")
        if not device_code:
            return _error("invalid_request", "device_code is missing")
        try:
            return _token(await self._services.device.poll(device_code, caller(request)))
        except Throttled as error:
            return _error("slow_down", str(error), {"retry-after": str(error.retry_after_s)})
        except KeyLimitReached as error:
            return _error("access_denied", str(error))


async def _received(request: Request) -> DeviceRequest:
    content = await request.body()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        try:
            pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
        except ValueError:
            pairs = []
        return DeviceRequest(dict(pairs), is_rfc=True)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    fields = document if isinstance(document, dict) else {}
    return DeviceRequest(fields, is_rfc=bool(fields.keys() & {"client_id", "grant_type"}))


def _status(polled: Polled) -> Response:
    if polled.status is GrantStatus.APPROVED:
        return JSONResponse({"status": "approved", "api_key": polled.api_key})
    return JSONResponse({"status": "pending" if polled.status is GrantStatus.PENDING else "expired"})


def _token(polled: Polled) -> Response:
    if polled.status is GrantStatus.APPROVED:
        return JSONResponse({"access_token": polled.api_key, "token_type": TOKEN_TYPE})
    if polled.status is GrantStatus.PENDING:
        return _error("authorization_pending")
    return _error("access_denied" if polled.is_refused else "expired_token")


def _error(code: str, description: str = "", headers: dict[str, str] | None = None) -> Response:
    text = _UNSAFE.sub("?", description)[:_DESCRIPTION_CHARS_MAX]  # it may quote the request
    document = {"error": code} | ({"error_description": text} if text else {})
    return JSONResponse(document, status_code=_BAD_REQUEST, headers=headers)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can hold an unpaired surrogate
        return False
    return True


def _body(fields: dict[str, str], required: str = "") -> dict[str, Any]:
    """Describe a body in OpenAPI: an object in JSON, or the same fields as a form."""
    properties = {name: {"type": "string"} | ({"description": text} if text else {}) for name, text in fields.items()}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = [required]
    content = {kind: {"schema": schema} for kind in ("application/json", _FORM)}
    return {"requestBody": {"content": content, "required": bool(required)}}
