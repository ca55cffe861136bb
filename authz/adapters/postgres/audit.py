"""The audit log in Postgres: written in the transaction of the change, read by account, and followed for changes.

`sql/` and `grants.py` make it append-only.
"""

from datetime import datetime
from typing import Any, Final

from authz.adapters.postgres.pool import Postgres
from authz.adapters.postgres.rows import RECORD_COLUMNS, key_record
from authz.core.accounts import DECISIVE, Actor, AuditEvent
from authz.core.owners import AuditLine
from authz.service.ports import Changed

# Since the key was last enabled: if an operator disabled a key as well, only an operator enables it.
_STOPPED_BY_OTHERS = (
    "SELECT EXISTS (SELECT FROM audit_log WHERE account_id = $1 AND key_id = $2 AND event = $3 AND actor <> $5 "
    "AND id > coalesce((SELECT max(id) FROM audit_log WHERE account_id = $1 AND key_id = $2 AND event = $4), 0))"
)

_LATEST: Final = "SELECT coalesce(max(id), 0) AS number, clock_timestamp() AS read_at FROM audit_log"
# With the state that the change led to, or a later one. The time is in every answer.
_FOLLOWING: Final = (
    "SELECT t.read_at, l.* FROM (SELECT clock_timestamp() AS read_at) t LEFT JOIN LATERAL ("  # noqa: S608 -- ours
    "SELECT l.id AS number, l.at, a.id AS account, a.suspended_at IS NOT NULL AS is_suspended, k.digest, "
    f"{RECORD_COLUMNS} FROM audit_log l JOIN accounts a ON a.id = l.account_id LEFT JOIN api_keys k ON k.id = l.key_id "
    "WHERE l.id > $1 AND l.at > $2::timestamptz - interval '30 s' AND l.event = ANY($3) ORDER BY l.id LIMIT $4"
    ") l ON true"
)
# Numbers are not committed in order: a line may become visible after later ones, within the time of a transaction.
_OVERLAP: Final = 4_096
_ROWS_MAX: Final = 8_192
_EVENTS: Final = sorted(DECISIVE)


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


class AuditedChanges:
    """Follows the audit log for changes of keys and accounts (`service.ports.Changes`)."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._latest = -1
        self._read_at: datetime | None = None
        # By time too, because a server that took over may give a number again.
        self._told: set[tuple[int, datetime]] = set()

    async def changed(self) -> list[Changed]:
        """Return the changes since the previous call, and none at the first. Raises `StoreUnavailable`.

        A call reads 8,192 lines at most; the following calls return the rest.
        """
        async with self._postgres.transaction(durable=False) as connection:
            if self._read_at is None:
                first = await connection.fetchrow(_LATEST)
                self._latest, self._read_at = first["number"], first["read_at"]
                return []
            arguments = (self._latest - _OVERLAP, self._read_at, _EVENTS, _ROWS_MAX)
            rows = await connection.fetch(_FOLLOWING, *arguments)
        lines = {(row["number"], row["at"]): row for row in rows if row["number"] is not None}
        if len(rows) < _ROWS_MAX:
            self._read_at = rows[0]["read_at"]
        self._latest = max([self._latest, *(number for number, _ in lines)])
        new = [row for line, row in lines.items() if line not in self._told]
        self._told = set(lines)
        return [_changed(row) for row in new]


def _changed(row: Any) -> Changed:  # noqa: ANN401 -- untyped driver
    key = None if row["digest"] is None else (row["digest"], key_record(row))
    return Changed(row["account"], row["is_suspended"], key)
