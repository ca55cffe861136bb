"""Conversions between rows of Postgres and the values of the core.

The SQL that reads and writes the rows is in the other modules of this folder.
"""

from typing import Any

from authz.core.accounts import Account, ApiKey, AuditEvent
from authz.core.check import AccountRecord, KeyRecord, KeyState
from authz.core.limits import Limit

# Columns are named, never *: a release works with the schema of the next one.
RECORD_COLUMNS = (
    "k.id, k.account_id, k.scopes, k.capacity, k.refill_per_s, k.expires_at, k.disabled_at, k.revoked_at, k.revision, "
    "k.plan"
)
"""The columns of a key `k` that `key_record` reads."""

ACCOUNT_RECORD_COLUMNS = "a.suspended_at, a.revision AS account_revision, a.keys_capacity, a.keys_refill_per_s"
"""The columns of an account `a` that `account_record` reads."""

KEY_COLUMNS = (
    "k.id, k.account_id, k.name, k.hint, k.scopes, k.capacity, k.refill_per_s, k.created_at, k.expires_at, "
    "k.disabled_at, k.revoked_at, k.revision, k.replaces, k.plan, u.last_used_at"
)
"""The columns of a key `k` and its use `u` that `api_key` reads."""

ACCOUNT_COLUMNS = "id, name, created_at, email, suspended_at"
"""The columns of accounts that `account` reads."""


def account(row: Any) -> Account:  # noqa: ANN401 -- untyped driver
    """Return an account."""
    return Account(**dict(row))


def account_record(row: Any, account_id: str) -> AccountRecord:  # noqa: ANN401 -- as above
    """Return the record of an account from `account_revision` and the account's other columns."""
    return AccountRecord(
        account_id=account_id,
        revision=row["account_revision"],
        is_suspended=row["suspended_at"] is not None,
        own=Limit(row["keys_capacity"], row["keys_refill_per_s"]),
    )


def key_record(row: Any) -> KeyRecord:  # noqa: ANN401 -- as above
    """Return the record of a key."""
    states = ((KeyState.REVOKED, row["revoked_at"]), (KeyState.DISABLED, row["disabled_at"]))
    expires_at = row["expires_at"]
    return KeyRecord(
        state=next((state for state, since in states if since is not None), KeyState.ACTIVE),
        revision=row["revision"],
        key_id=row["id"],
        account_id=row["account_id"],
        scopes=frozenset(row["scopes"]),
        limit=_limit(row),
        plan=row["plan"] or "",
        expires_at_ms=0 if expires_at is None else int(expires_at.timestamp() * 1000),
    )


def api_key(row: Any) -> ApiKey:  # noqa: ANN401 -- as above
    """Return a key."""
    plain = {name: row[name] for name in ("id", "account_id", "name", "hint", "created_at", "expires_at")}
    times = {name: row[name] for name in ("disabled_at", "revoked_at", "last_used_at", "revision", "replaces")}
    return ApiKey(**plain, **times, scopes=frozenset(row["scopes"]), limit=_limit(row), plan=row["plan"] or "")


def limit_columns(limit: Limit | None) -> tuple[int | None, float | None]:
    """Return the columns of a key's own limit."""
    return (None, None) if limit is None else (limit.capacity, limit.refill_per_s)


def changed_columns(event: AuditEvent, to: Limit | str | None) -> tuple[object, ...]:
    """Return the new values of a change, if it has some: a limit, or the name of a plan."""
    if event is AuditEvent.KEY_LIMITED:
        return limit_columns(to if isinstance(to, Limit) else None)
    return (to or None,) if event is AuditEvent.KEY_PLAN_SET else ()


def _limit(row: Any) -> Limit | None:  # noqa: ANN401 -- as above
    return None if row["capacity"] is None else Limit(row["capacity"], row["refill_per_s"])
