"""What the application's own role may do with each table: it cannot alter the audit log, nor what was migrated.

The tables belong to the role that migrates, which the application does not use.
"""

from collections.abc import Mapping
from typing import Final

from authz.adapters.postgres.session import Session
from authz.core.errors import StoreUnavailable

PRIVILEGES: Final[Mapping[str, str]] = {
    "account_outbox": "SELECT, INSERT, UPDATE, DELETE",
    "accounts": "SELECT, INSERT, UPDATE",
    "api_keys": "SELECT, INSERT, UPDATE",
    "audit_log": "SELECT, INSERT",
    "email_changes": "SELECT, INSERT, UPDATE, DELETE",
    "key_outbox": "SELECT, INSERT, UPDATE, DELETE",
    "key_uses": "SELECT, INSERT, UPDATE, DELETE",
    "migrations": "SELECT",
    "owners": "SELECT, INSERT, UPDATE",
    "password_resets": "SELECT, INSERT, UPDATE, DELETE",
}
"""Table -> privileges of the application's role. A row lock (FOR SHARE) needs UPDATE."""

FUNCTIONS: Final = ("delete_ended_keys(timestamptz, integer)",)
"""The functions that the application's role may call."""

_ROLE: Final = "SELECT rolsuper, quote_ident(rolname) AS quoted FROM pg_roles WHERE rolname = $1"
_OWNED: Final = (
    "SELECT c.relname FROM pg_class c WHERE c.relname = ANY($2) AND c.relnamespace = current_schema()::regnamespace "
    "AND pg_has_role($1, c.relowner, 'MEMBER') LIMIT 1"
)
_SCHEMA: Final = "SELECT quote_ident(current_schema())"


async def grant(session: Session, role: str) -> None:
    """Give a role the privileges that the application needs, and take all others; in the caller's transaction.

    Raises `StoreUnavailable` if there is no such role, or if it could give itself any privilege.
    """
    found = await session.fetchrow(_ROLE, role)
    if found is None:
        raise StoreUnavailable("postgres", f"there is no role {role}: create it first", transient=False)
    if found["rolsuper"]:
        raise StoreUnavailable("postgres", f"the role {role} is a superuser and may do everything", transient=False)
    owned = await session.fetchval(_OWNED, role, list(PRIVILEGES))
    if owned is not None:
        detail = f"the role {role} owns {owned} and may do everything: migrate as another role"
        raise StoreUnavailable("postgres", detail, transient=False)
    quoted, schema = found["quoted"], await session.fetchval(_SCHEMA)
    await session.run(f"GRANT USAGE ON SCHEMA {schema} TO {quoted}")
    for table, privileges in PRIVILEGES.items():
        await session.run(f"REVOKE ALL ON TABLE {table} FROM PUBLIC, {quoted}")
        await session.run(f"GRANT {privileges} ON TABLE {table} TO {quoted}")
    for function in FUNCTIONS:
        await session.run(f"GRANT EXECUTE ON FUNCTION {function} TO {quoted}")
