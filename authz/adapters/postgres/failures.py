"""Failures of Postgres: their kinds, and their descriptions for operators.

Messages of the driver may quote values and parts of the URL, so they are not used; only the kind of the error is.
"""

import os
import socket
import ssl
from typing import Final

import asyncpg

from authz.core.errors import StoreUnavailable


class NotPrimary(Exception):  # noqa: N818 -- named for what is so
    """The server takes no writes: it is a standby, or read-only. What it does not hold may exist all the same."""


FAILURES: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # Raised on a connection that the server ended between two statements.
    asyncpg.InternalClientError,
    NotPrimary,
)
"""Everything that a transaction can raise."""

CONNECT_FAILURES: Final = (Exception,)
"""Everything that an attempt to connect can raise: what the driver makes of a URL or a file is not all known."""

_NOT_PRIMARY: Final = (NotPrimary, asyncpg.ReadOnlySQLTransactionError, asyncpg.TargetServerAttributeNotMatched)
_HOPELESS: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
    ValueError,
)
# No statement and no name in it comes from a request, so these are faults of the installation, of the disk or a bug.
_BROKEN: Final = (asyncpg.SyntaxOrAccessError, asyncpg.PostgresSystemError, asyncpg.InternalServerError)
_SCHEMA: Final = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError)
_GONE: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.ProtocolViolationError,  # how a pooler says that it has no server, or no room for this client
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)


def is_wrong_server(error: BaseException) -> bool:
    """Tell whether the server takes no writes."""
    return isinstance(error, _NOT_PRIMARY)


def is_gone(error: BaseException) -> bool:
    """Return whether the connection cannot be used any more."""
    return isinstance(error, _GONE) and not isinstance(error, asyncpg.QueryCanceledError | TimeoutError)


def is_from_server(error: BaseException | None) -> bool:
    """Tell whether the server answered with an error."""
    return isinstance(error, asyncpg.PostgresError)


def is_outage(error: BaseException) -> bool:
    """Tell whether the failure is one of Postgres or of the way to it, and not of what was asked."""
    kinds = (*_GONE, *_NOT_PRIMARY, *_BROKEN, *_HOPELESS, TimeoutError, asyncpg.InsufficientResourcesError)
    return isinstance(error, kinds) and not isinstance(error, asyncpg.QueryCanceledError)


def is_transient(error: BaseException) -> bool:
    """Tell whether trying again can help."""
    return not isinstance(error, _HOPELESS)


def unavailable(error: BaseException) -> StoreUnavailable:
    """Return a failure of a transaction as what its callers expect."""
    return StoreUnavailable("postgres", description(error), transient=is_transient(error))


def description(error: BaseException, *, connecting: bool = False) -> str:
    """Describe a failure for the log, without a value in it."""
    if isinstance(error, TimeoutError):
        if connecting:
            return "no connection in time: connecting took longer than AUTHZ_POSTGRES_CONNECT_S"
        return "no answer in time: a transaction took longer than AUTHZ_POSTGRES_DEADLINE_S"
    if is_wrong_server(error):
        return "not the primary: the server is a standby or read-only (default_transaction_read_only)"
    if isinstance(error, asyncpg.LockNotAvailableError):
        return "a lock was not free within AUTHZ_POSTGRES_DEADLINE_S"
    if isinstance(error, asyncpg.QueryCanceledError):
        return "a statement took longer than AUTHZ_POSTGRES_DEADLINE_S and was cancelled"
    name = type(error).__name__
    if isinstance(error, _SCHEMA):
        return f"the schema is missing or old: run authz migrate ({name})"
    if isinstance(error, asyncpg.InsufficientPrivilegeError) and not connecting:
        return f"the role lacks a privilege: run authz migrate --app-role ({name})"
    if type(error) is ValueError:  # the URL's reader quotes no value
        return f"AUTHZ_POSTGRES_URL: {error}"
    return f"{'cannot connect: ' if connecting else ''}{name}{_reason(error)}"


def _reason(error: BaseException) -> str:
    """Return what an error of the system or of TLS says, which quotes no value of the URL."""
    if isinstance(error, asyncpg.ProtocolViolationError):
        return ": a pooler refuses it, and its log says why"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f": {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f": {error.reason}"
    if isinstance(error, socket.gaierror):
        return ": the name of the host has no address"
    if isinstance(error, UnicodeError):
        return ": the name of the host cannot be one"
    if isinstance(error, OSError) and error.errno is not None:
        return f": {os.strerror(error.errno)}"
    return ": the path of the unix socket is too long" if isinstance(error, OSError) and "AF_UNIX" in str(error) else ""
