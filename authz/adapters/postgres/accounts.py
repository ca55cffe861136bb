"""The SQL of accounts: their changes, their lines in the outbox, and the record that Redis gets.

Each function runs in a transaction of its caller; the keys are `keys.py`, owners `owners.py`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from authz.adapters.postgres.audit import write_audit
from authz.adapters.postgres.rows import ACCOUNT_COLUMNS, ACCOUNT_RECORD_COLUMNS, account, account_record
from authz.core.accounts import Account, Actor, AuditEvent
from authz.core.check import AccountRecord
from authz.core.errors import Refused

_CHANGES = {
    AuditEvent.ACCOUNT_SUSPENDED: "suspended_at = coalesce(suspended_at, now())",
    AuditEvent.ACCOUNT_REINSTATED: "suspended_at = NULL",
}
_ENQUEUE = (
    "INSERT INTO account_outbox (account_id, revision) SELECT id, revision FROM accounts WHERE id = $1 "
    "ON CONFLICT (account_id) DO UPDATE SET revision = excluded.revision"
)
_SETTLE = (
    "DELETE FROM account_outbox WHERE account_id = $1 "
    "RETURNING extract(epoch FROM clock_timestamp() - created_at)::float8 AS waited_s"
)
# A rotated key passes its share on to its successor. Otherwise each rotation with an overlap would add one.
_OWN_LIMITS = (
    "UPDATE accounts SET (keys_capacity, keys_refill_per_s) = ("
    "SELECT coalesce(sum(capacity), 0), coalesce(sum(refill_per_s), 0) FROM api_keys k WHERE account_id = $1 "
    "AND capacity IS NOT NULL AND revoked_at IS NULL AND (expires_at > now() OR expires_at IS NULL) "
    "AND NOT EXISTS (SELECT FROM api_keys successor WHERE successor.replaces = k.id)) WHERE id = $1"
)


async def insert_account(connection: Any, added: Account) -> None:  # noqa: ANN401 -- untyped driver
    """Add the row of an account."""
    await connection.execute(
        "INSERT INTO accounts (id, name, email, created_at) VALUES ($1, $2, $3, $4)",
        added.id,
        added.name,
        added.email,
        added.created_at,
    )


async def find_account(connection: Any, account_id: str) -> Account | None:  # noqa: ANN401 -- as above
    """Return one account, or None if there is none."""
    row = await connection.fetchrow(f"SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE id = $1", account_id)  # noqa: S608 -- ours
    return None if row is None else account(row)


async def list_accounts(connection: Any, after: str, rows_max: int) -> list[Account]:  # noqa: ANN401 -- as above
    """Return accounts, oldest first, after the account with the id `after`, or from the first on."""
    rows = await connection.fetch(
        f"SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE $1 = '' "  # noqa: S608 -- ours
        "OR (created_at, id) > (SELECT created_at, id FROM accounts WHERE id = $1) ORDER BY created_at, id LIMIT $2",
        after,
        rows_max,
    )
    return [account(row) for row in rows]


async def change_account(connection: Any, account_id: str, event: AuditEvent, actor: Actor) -> None:  # noqa: ANN401 -- as above
    """Suspend or reinstate an account: one row, however many keys it has."""
    done = await connection.fetchval(
        f"UPDATE accounts SET {_CHANGES[event]} WHERE id = $1 RETURNING id",  # noqa: S608 -- ours
        account_id,
    )
    if done is None:
        raise Refused(f"there is no account {account_id}")
    await connection.execute(_ENQUEUE, account_id)
    await write_audit(connection, actor, event, account_id)


async def lock_account(connection: Any, account_id: str) -> None:  # noqa: ANN401 -- as above
    """Lock an account's row before those of its keys, as loads do."""
    await connection.execute("SELECT FROM accounts WHERE id = $1 FOR UPDATE", account_id)


async def sum_own_limits(connection: Any, account_id: str) -> None:  # noqa: ANN401 -- as above
    """Add up the own limits of an account's live keys, after one of them changed. The account must be locked."""
    await connection.execute(_OWN_LIMITS, account_id)
    await connection.execute(_ENQUEUE, account_id)


async def settle_account(
    connection: Any,  # noqa: ANN401 -- as above
    account_id: str,
    put: Callable[[AccountRecord], Awaitable[bool]],
) -> tuple[bool, float | None]:
    """Pass an account's present record to `put` while its row is locked, and delete its line in the outbox.

    Returns the result of `put`, and the age of the line in seconds, None if there was none.
    """
    row = await connection.fetchrow(
        f"SELECT {ACCOUNT_RECORD_COLUMNS} FROM accounts a WHERE a.id = $1 FOR SHARE",  # noqa: S608 -- ours
        account_id,
    )
    done = await put(account_record(row, account_id))
    return done, await connection.fetchval(_SETTLE, account_id) if done else None
