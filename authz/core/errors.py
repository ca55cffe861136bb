"""The closed list of refusals with their public texts, and the exceptions for failures.

A refusal is a value (`Deny`); an exception means that a part of the system failed.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any


class GrpcCode(IntEnum):
    """The gRPC status codes in use (https://grpc.github.io/grpc/core/md_doc_statuscodes.html)."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class DenyReason(StrEnum):
    """Why a check was refused: a metric label and a log field, never shown to the caller."""

    PATH_NOT_CANONICAL = "path_not_canonical"
    METHOD_REFUSED = "method_refused"
    METHOD_OVERRIDDEN = "method_overridden"
    PATH_OVERRIDDEN = "path_overridden"
    HEADER_ALIAS = "header_alias"
    KEY_ON_SESSION_ROUTE = "key_on_session_route"
    KEY_MISSING = "key_missing"
    KEY_REPEATED = "key_repeated"
    KEY_MALFORMED = "key_malformed"
    PARAMETER_AMBIGUOUS = "parameter_ambiguous"
    KEY_UNKNOWN = "key_unknown"
    KEY_REVOKED = "key_revoked"
    KEY_EXPIRED = "key_expired"
    KEY_DISABLED = "key_disabled"
    ACCOUNT_SUSPENDED = "account_suspended"
    ADDRESS_THROTTLED = "address_throttled"
    RATE_LIMITED = "rate_limited"
    BARRED = "barred"
    ROUTE_UNKNOWN = "route_unknown"
    METHOD_UNKNOWN = "method_unknown"
    GRPC_METHOD_UNKNOWN = "grpc_method_unknown"
    SCOPE_MISSING = "scope_missing"
    ACCOUNT_MISMATCH = "account_mismatch"
    ACCOUNT_REPEATED = "account_repeated"
    ACCOUNT_AMBIGUOUS = "account_ambiguous"
    ACCOUNT_ABSENT = "account_absent"
    BODY_UNREADABLE = "body_unreadable"
    BODY_TOO_LARGE = "body_too_large"
    BODY_NOT_JSON = "body_not_json"
    STREAMS_OF_KEY = "streams_of_key"
    STREAMS_OF_ACCOUNT = "streams_of_account"
    STORE_UNAVAILABLE = "store_unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Denial:
    """The public status and texts of a refusal.

    `code` is the gRPC code and `http` the HTTP status. `message` goes into JSON bodies, `line` is the whole text of a
    text/plain body. They may contain {scope} and {streams}, which are the route's. All bad keys get the same text.
    """

    code: GrpcCode
    http: int
    message: str
    line: str


_BAD_REQUEST = Denial(GrpcCode.INVALID_ARGUMENT, 400, "bad request", "bad request")
_UNAUTHORIZED = Denial(GrpcCode.UNAUTHENTICATED, 401, "invalid or missing api key", "unauthorized")
_FORBIDDEN = Denial(GrpcCode.PERMISSION_DENIED, 403, "forbidden", "forbidden")
_TOO_MANY = Denial(GrpcCode.RESOURCE_EXHAUSTED, 429, "rate limit exceeded", "rate limit exceeded")
_UNAVAILABLE = Denial(GrpcCode.UNAVAILABLE, 503, "unavailable", "unavailable")


def _too_many_streams(whose: str) -> Denial:
    text = f"too many concurrent {{streams}} for this {whose}"
    return Denial(GrpcCode.RESOURCE_EXHAUSTED, 429, text, text)


DENIALS: dict[DenyReason, Denial] = {
    DenyReason.PATH_NOT_CANONICAL: _BAD_REQUEST,
    DenyReason.METHOD_REFUSED: _BAD_REQUEST,
    DenyReason.METHOD_OVERRIDDEN: _BAD_REQUEST,
    DenyReason.PATH_OVERRIDDEN: _BAD_REQUEST,
    DenyReason.HEADER_ALIAS: _BAD_REQUEST,
    DenyReason.KEY_ON_SESSION_ROUTE: _FORBIDDEN,
    DenyReason.KEY_MISSING: _UNAUTHORIZED,
    DenyReason.KEY_REPEATED: _UNAUTHORIZED,
    DenyReason.KEY_MALFORMED: _UNAUTHORIZED,
    DenyReason.PARAMETER_AMBIGUOUS: _BAD_REQUEST,
    DenyReason.KEY_UNKNOWN: _UNAUTHORIZED,
    DenyReason.KEY_REVOKED: _UNAUTHORIZED,
    DenyReason.KEY_EXPIRED: _UNAUTHORIZED,
    DenyReason.KEY_DISABLED: _UNAUTHORIZED,
    DenyReason.ACCOUNT_SUSPENDED: _UNAUTHORIZED,
    DenyReason.ADDRESS_THROTTLED: _TOO_MANY,
    DenyReason.RATE_LIMITED: _TOO_MANY,
    DenyReason.BARRED: _FORBIDDEN,
    DenyReason.ROUTE_UNKNOWN: Denial(GrpcCode.NOT_FOUND, 404, "not found", "not found"),
    DenyReason.METHOD_UNKNOWN: Denial(GrpcCode.UNIMPLEMENTED, 405, "method not allowed", "method not allowed"),
    DenyReason.GRPC_METHOD_UNKNOWN: Denial(GrpcCode.UNIMPLEMENTED, 404, "unknown method", "unknown method"),
    DenyReason.SCOPE_MISSING: Denial(GrpcCode.PERMISSION_DENIED, 403, "missing scope {scope}", "forbidden"),
    DenyReason.ACCOUNT_MISMATCH: Denial(GrpcCode.PERMISSION_DENIED, 403, "account mismatch", "forbidden"),
    DenyReason.ACCOUNT_REPEATED: _BAD_REQUEST,
    DenyReason.ACCOUNT_AMBIGUOUS: _BAD_REQUEST,
    DenyReason.ACCOUNT_ABSENT: _BAD_REQUEST,
    DenyReason.BODY_UNREADABLE: _BAD_REQUEST,
    DenyReason.BODY_TOO_LARGE: Denial(
        GrpcCode.INVALID_ARGUMENT, 413, "request body too large", "request body too large"
    ),
    DenyReason.BODY_NOT_JSON: Denial(
        GrpcCode.INVALID_ARGUMENT, 415, "the body must be application/json in utf-8", "unsupported media type"
    ),
    DenyReason.STREAMS_OF_KEY: _too_many_streams("key"),
    DenyReason.STREAMS_OF_ACCOUNT: _too_many_streams("account"),
    DenyReason.STORE_UNAVAILABLE: _UNAVAILABLE,
    DenyReason.INTERNAL: _UNAVAILABLE,
}


class StoreUnavailable(Exception):  # noqa: N818 -- named for the state it reports
    """A store did not answer in time, or refused.

    `store` is "redis" or "postgres". `transient` is False if a retry cannot help, as with a wrong password.
    """

    def __init__(self, store: str, detail: str, *, transient: bool = True) -> None:
        super().__init__(f"{store} unavailable: {detail}")
        self.store = store
        self.transient = transient


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a policy.

    `where` is its path in the document, e.g. ("routes", 3, "match", 0). `line` and `column` count from 1; 0 means not
    known yet. `file` is set if it is not the policy's own.
    """

    where: tuple[str | int, ...]
    message: str
    line: int = 0
    column: int = 0
    file: str = ""


class PolicyError(Exception):
    """A policy that must not be loaded: `problems` holds every fault, in document order; `file` is its path.

    `seen` are the states of the files that were read, for who waits for a change.
    """

    def __init__(self, problems: list[Problem], file: str = "", seen: tuple[Any, ...] = ()) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.seen = seen
        self.problems = problems
        self.file = file


class SettingsError(Exception):
    """A setting that is missing or invalid; the message names the setting, never its secret value."""


class Refused(Exception):  # noqa: N818 -- an answer to a person, not a failure
    """A use case that the rules refuse; str(error) is the message for the person."""


class EmailTaken(Refused):
    """The address already has an account."""


class WrongCredentials(Refused):
    """The address or the password is wrong; the message never says which."""


class KeyLimitReached(Refused):
    """The account already has the maximum number of keys."""


class KeyUnknown(Refused):
    """The account has no such key."""


class ScopeUnknown(Refused):
    """The policy declares no such scope."""


class CodeUnknown(Refused):
    """No device waits for this code."""


class Throttled(Refused):
    """Too many attempts; `retry_after_s` is the time to wait, in seconds."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotEffectiveYet(Exception):  # noqa: N818 -- named for the state it reports
    """A change that is durable but not yet effective everywhere; it is retried until it is."""
