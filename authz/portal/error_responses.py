"""Maps refusals and failures to HTTP: one table of statuses and one JSON body.

Pages show the same texts in HTML: `pages/rendering.py`.
"""

import logging
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from authz.core.error_body import error_body
from authz.core.errors import (
    DENIALS,
    EmailTaken,
    GrpcCode,
    KeyLimitReached,
    KeyUnknown,
    NotEffectiveYet,
    Refused,
    StoreUnavailable,
    Throttled,
    WrongCredentials,
)
from authz.portal.browser_sessions import Forged

_BAD_REQUEST = 400
_UNREADABLE = "bad request"
_STATUSES: dict[type[Exception], int] = {
    Throttled: 429,
    KeyLimitReached: 429,
    EmailTaken: 409,
    WrongCredentials: 401,
    KeyUnknown: 404,
    Forged: 403,
    Refused: _BAD_REQUEST,
    NotEffectiveYet: 503,
    StoreUnavailable: 503,
    RequestValidationError: _BAD_REQUEST,
}
_STORE_RETRY_S = "1"
_SAVED = "the change is saved, but a store is unavailable; it takes effect when the store is available again"

_log = logging.getLogger("authz.portal")


def described(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Return the status, the text and the headers of the response to an error."""
    if isinstance(error, HTTPException):
        # The texts of the framework about an unreadable body change between its versions.
        words = _UNREADABLE if error.status_code == _BAD_REQUEST else str(error.detail).lower()
        return error.status_code, words, dict(error.headers or {})
    status = next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 500)
    if isinstance(error, Throttled):
        return status, str(error), {"retry-after": str(error.retry_after_s)}
    if isinstance(error, Refused):
        return status, str(error), {}
    if isinstance(error, RequestValidationError):
        return status, _UNREADABLE, {}
    if isinstance(error, StoreUnavailable | NotEffectiveYet):
        _log.warning("a request failed", extra={"error": str(error)})
        words = "unavailable" if isinstance(error, StoreUnavailable) else _SAVED
        return status, words, {"retry-after": _STORE_RETRY_S}
    return status, "internal error", {}


def json_response(error: Exception, domain: str = "") -> Response:
    """Create the JSON response to an error; with the `domain` of an API, in the format of its keyed routes."""
    status, words, headers = described(error)
    body = _error_body(domain, status, words) if domain else {"error": words}
    return JSONResponse(body, status_code=status, headers=headers)


def _error_body(domain: str, status: int, words: str) -> Any:  # noqa: ANN401 -- JSON
    """Build the body with the code and the text that authz uses for this status."""
    denial = next((each for each in DENIALS.values() if each.http == status), None)
    code = GrpcCode.INTERNAL if denial is None else denial.code
    return error_body(domain, int(code), words, words if denial is None else denial.line)
