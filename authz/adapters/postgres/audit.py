"""The audit log in Postgres: written in the transaction of the change, and read by account.

`sql/` and `grants.py` make it append-only.
"""

from typing import Any

from authz.core.accounts import Actor, AuditEvent
from authz.core.owners import AuditLine

# Since the key was last enabled: if an operator disabled a key as well, only an operator enables it.
_STOPPED_BY_OTHERS = (
    "SELECT EXISTS (SELECT FROM audit_log WHERE account_id = $1 AND key_id = $2 AND event = $3 AND actor <> $5 "
    "AND id > coalesce((SELECT max(id) FROM audit_log WHERE account_id = $1 AND key_id = $2 AND event = $4), 0))"
)


async def write_audit(
    connection: Any,  # noqa: ANN401 -- untyped driver
    actor: Actor,
    event: AuditEvent,
    account_id: str,
    key_id: str | None = None,
) -> None:
    """Write one line."""
    await connection.execute(
        "INSERT INTO audit_log (actor, source_address, event, account_id, key_id) VALUES ($1, $2, $3, $4, $5)",
        actor.name,
        actor.source_address,
        event,
        account_id,
        key_id,
    )


async def read_audit(connection: Any, account_id: str, before: int, lines_max: int) -> list[AuditLine]:  # noqa: ANN401 -- the same
    """Return an account's latest lines with a number below `before`, newest first."""
    rows = await connection.fetch(
        "SELECT id AS number, at, actor, source_address, event, key_id FROM audit_log "
        "WHERE account_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        account_id,
        before,
        lines_max,
    )
    return [AuditLine(**dict(row)) for row in rows]


async def is_disabled_by_others(connection: Any, account_id: str, key_id: str, actor: Actor) -> bool:  # noqa: ANN401 -- the same
    """Return whether anybody but the actor has disabled a key since it was last enabled."""
    events = (AuditEvent.KEY_DISABLED, AuditEvent.KEY_ENABLED)
    return bool(await connection.fetchval(_STOPPED_BY_OTHERS, account_id, key_id, *events, actor.name))
