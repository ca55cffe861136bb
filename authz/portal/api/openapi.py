"""The OpenAPI description, made true: the framework describes a 422 that never happens, and no refusals or sessions.

The statuses are those of `../error_responses.py`; which routes exist is `../app.py`.
"""

from typing import Any

from authz.portal.api.public import WHO_AM_I
from authz.portal.browser_sessions import TOKEN_HEADER

_SESSION_PATHS = "/v1/dashboard"
_REFUSALS = {
    "400": "An unreadable body or a refused value.",
    "401": "Wrong credentials, or no session.",
    "403": "Not from a page of the portal, or without its token.",
    "404": "There is no such key.",
    "409": "The e-mail address is registered already.",
    "413": "The body is larger than 64 KiB.",
    "414": "The target is longer than 8 KiB.",
    "429": "Too many attempts or keys.",
    "503": "A store is unavailable, or the change is not effective yet.",
}
_OF_PORTAL, _OF_AUTHZ = "PortalError", "ApiError"
_ERRORS = {
    _OF_PORTAL: {
        "type": "object",
        "description": "A refusal of the portal.",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
    },
    _OF_AUTHZ: {
        "type": "object",
        "description": "A refusal of authz, which decides before the portal, and of routes with a key.",
        "properties": {
            "code": {"type": "integer", "description": "A code of gRPC."},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["code", "message", "details"],
    },
}
_WITH_BODY = {"post", "put", "patch", "delete"}


def corrected(document: dict[str, Any], *, cookie_name: str, key_header: str) -> dict[str, Any]:
    """Return the description with the real statuses, the session cookie, the token header and the header of keys."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            responses.pop("422", None)
            for status in _statuses(path, method):
                responses.setdefault(status, _refusal(_REFUSALS[status]))
            if path.startswith(_SESSION_PATHS):
                operation["security"] = [{"session": []} | ({"token": []} if method in _WITH_BODY else {})]
            if path == WHO_AM_I:
                operation["security"] = [{"key": []}]
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas.update(_ERRORS)
    components["securitySchemes"] = {
        "session": {"type": "apiKey", "in": "cookie", "name": cookie_name},
        "token": {"type": "apiKey", "in": "header", "name": TOKEN_HEADER},
        "key": {"type": "apiKey", "in": "header", "name": key_header},
    }
    return document


def _statuses(path: str, method: str) -> list[str]:
    statuses = ["400", "403", "414", "503"]
    if method in _WITH_BODY:
        statuses += ["413", "429"]
    if path.startswith(_SESSION_PATHS) or path in {WHO_AM_I, "/v1/public/login"}:
        statuses += ["401", "404", "429"]
    if path == "/v1/public/signup":
        statuses.append("409")
    return statuses


def _refusal(text: str) -> dict[str, Any]:
    either = [{"$ref": f"#/components/schemas/{name}"} for name in (_OF_PORTAL, _OF_AUTHZ)]
    return {"description": text, "content": {"application/json": {"schema": {"anyOf": either}}}}
