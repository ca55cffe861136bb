"""What becomes of a refusal or a failure on its way out: one table of statuses, one JSON body.

Pages show the same words in HTML: `pages.py`.
"""

import logging

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from authz.core.errors import (
    EmailTaken,
    KeyLimitReached,
    KeyUnknown,
    NotEffectiveYet,
    Refused,
    StoreUnavailable,
    Throttled,
    WrongCredentials,
)
from authz.portal.visits import Forged

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
_KEPT = "the change is kept, but a store is out of reach; it takes effect as soon as that is back"

_log = logging.getLogger("authz.portal")


def face(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Return the status, the words and the headers that an error shows the caller."""
    if isinstance(error, HTTPException):
        # What the framework says of a body that it cannot read changes with it.
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
        words = "unavailable" if isinstance(error, StoreUnavailable) else _KEPT
        return status, words, {"retry-after": _STORE_RETRY_S}
    return status, "internal error", {}


def answer_in_json(error: Exception) -> Response:
    """Answer an error as the APIs do."""
    status, words, headers = face(error)
    return JSONResponse({"error": words}, status_code=status, headers=headers)
