"""Accounts, keys and pending changes in Postgres: the authoritative data that Redis projects.

Reads for checks are in `directory.py`, the SQL of accounts in `accounts.py`, that of lists in `listings.py`. The rules
of the use cases are in `service/keys/admin.py`.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Any

from authz.adapters.postgres import accounts, listings, rows
from authz.adapters.postgres.audit import is_disabled_by_others, write_audit
from authz.adapters.postgres.pool import Postgres
from authz.adapters.postgres.rows import KEY_COLUMNS, RECORD_COLUMNS, api_key, key_record, limit_columns
from authz.core.accounts import Account, Actor, ApiKey, AuditEvent, EmailAccounts, Replacement
from authz.core.check import AccountRecord, KeyRecord
from authz.core.errors import KeyLimitReached, Refused
from authz.core.limits import Limit

_RECORD = f"SELECT k.digest, {RECORD_COLUMNS} FROM api_keys k WHERE k.id = $1 FOR SHARE"  # noqa: S608 -- ours
_KEY = f"SELECT {KEY_COLUMNS} FROM api_keys k LEFT JOIN key_uses u ON u.key_id = k.id WHERE k.id = $1"  # noqa: S608 -- ours
_ENQUEUE = (
    "INSERT INTO key_outbox (key_id, revision) SELECT id, revision FROM api_keys WHERE id = $1 "
    "ON CONFLICT (key_id) DO UPDATE SET revision = excluded.revision"
)
# By whether everything is asked for; in turns of bounded size.
_PENDING_KEYS = (
    "SELECT key_id FROM key_outbox ORDER BY created_at LIMIT $1",
    "SELECT id FROM api_keys WHERE id > $2 ORDER BY id LIMIT $1",
)
_PENDING_ACCOUNTS = (
    "SELECT account_id FROM account_outbox ORDER BY created_at LIMIT $1",
    "SELECT id FROM accounts WHERE id > $2 ORDER BY id LIMIT $1",
)
_SETTLE = (
    "DELETE FROM key_outbox WHERE key_id = $1 "
    "RETURNING extract(epoch FROM clock_timestamp() - created_at)::float8 AS waited_s"
)
_OUTBOX = (
    "SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_s "
    "FROM (SELECT created_at FROM key_outbox UNION ALL SELECT created_at FROM account_outbox) pending"
)
_END = "UPDATE api_keys SET {} WHERE id = $1"
_KEY_CHANGES = {
    AuditEvent.KEY_REVOKED: "revoked_at = coalesce(revoked_at, now())",
    AuditEvent.KEY_DISABLED: "disabled_at = coalesce(disabled_at, now())",
    AuditEvent.KEY_ENABLED: "disabled_at = NULL",
    AuditEvent.KEY_LIMITED: "capacity = $2, refill_per_s = $3",
    AuditEvent.KEY_PLAN_SET: "plan = $2",
}


class PostgresKeys:
    """Stores and changes accounts and keys (`service.ports.KeyLedger`).

    `on_settled` is called for each pending change that became effective, with the seconds since the change.
    """

    def __init__(self, postgres: Postgres, on_settled: Callable[[float], None] = lambda _seconds: None) -> None:
        self._postgres = postgres
        self._on_settled = on_settled

    async def add_account(self, account: Account, actor: Actor) -> None:
        """Store a new account."""
        async with self._postgres.transaction() as connection:
            await accounts.insert_account(connection, account)
            await write_audit(connection, actor, AuditEvent.ACCOUNT_CREATED, account.id)

    async def accounts(self, after: str = "", rows_max: int = 1000) -> list[Account]:
        """Return a page of accounts, oldest first."""
        async with self._postgres.transaction() as connection:
            return await accounts.list_accounts(connection, after, rows_max)

    async def account(self, account_id: str) -> Account:
        """Return one account."""
        async with self._postgres.transaction() as connection:
            found = await accounts.find_account(connection, account_id)
        if found is None:
            raise Refused(f"there is no account {account_id}")
        return found

    async def add_key(
        self, key: ApiKey, digest: bytes, active_max: int, actor: Actor, event: AuditEvent = AuditEvent.KEY_CREATED
    ) -> None:
        """Store a new key, if its account may have another."""
        async with self._postgres.transaction() as connection:
            await _queue(connection, key.account_id)
            await _insert(connection, key, digest, active_max)
            if key.limit is not None:
                await accounts.sum_own_limits(connection, key.account_id)
            await write_audit(connection, actor, event, key.account_id, key.id)

    async def keys(self, account_id: str, after: str = "", rows_max: int = 1000) -> list[ApiKey]:
        """Return a page of an account's keys, oldest first."""
        async with self._postgres.transaction() as connection:
            return await listings.oldest_keys(connection, account_id, after, rows_max)

    async def latest_keys(
        self, account_id: str, before: str, rows_max: int, *, ended_only: bool = False
    ) -> list[ApiKey]:
        """Return a page of an account's keys, newest first."""
        async with self._postgres.transaction() as connection:
            return await listings.latest_keys(connection, account_id, before, rows_max, ended_only=ended_only)

    async def live_keys(self, account_id: str, rows_max: int) -> list[ApiKey]:
        """Return the newest of an account's keys that are neither revoked nor expired."""
        async with self._postgres.transaction() as connection:
            return await listings.live_keys(connection, account_id, rows_max)

    async def key_names(self, account_id: str, key_ids: Collection[str]) -> dict[str, str]:
        """Return the names of some of an account's keys, by id."""
        async with self._postgres.transaction() as connection:
            return await listings.key_names(connection, account_id, key_ids)

    async def accounts_of(self, digests: Collection[bytes]) -> dict[bytes, str]:
        """Return the accounts of those of the digests that are stored."""
        async with self._postgres.transaction() as connection:
            return await listings.accounts_of(connection, digests)

    async def accounts_of_emails(self, emails: Collection[str]) -> dict[str, EmailAccounts]:
        """Return the accounts of those of the addresses that have any."""
        async with self._postgres.transaction() as connection:
            return await listings.accounts_of_emails(connection, emails)

    async def live_counts(self, account_ids: Collection[str]) -> dict[str, int]:
        """Return how many live keys each existing account has, if it is not suspended."""
        async with self._postgres.transaction() as connection:
            return await listings.live_counts(connection, account_ids)

    async def plans(self) -> dict[str, int]:
        """Return how many live keys have each plan."""
        async with self._postgres.transaction() as connection:
            return await listings.plans(connection)

    async def find_keys(self, digest: bytes, hint: str) -> list[ApiKey]:
        """Return the keys with a digest or with a hint, oldest first; an empty digest or hint matches none."""
        async with self._postgres.transaction() as connection:
            return await listings.find_keys(connection, digest, hint)

    async def key(self, key_id: str) -> ApiKey:
        """Return one key."""
        async with self._postgres.transaction() as connection:
            row = await connection.fetchrow(_KEY, key_id)
        if row is None:
            raise Refused(f"there is no key {key_id}")
        return api_key(row)

    async def change_key(
        self, key_id: str, event: AuditEvent, actor: Actor, to: Limit | str | None = None, *, own_only: bool = False
    ) -> str:
        """Change a key; returns the id of its account if that record changes too, else ""."""
        columns = rows.changed_columns(event, to)
        async with self._postgres.transaction() as connection:
            before = await connection.fetchrow("SELECT account_id, capacity FROM api_keys WHERE id = $1", key_id)
            sums_up = before is not None and _sums_up(event, before["capacity"])
            if sums_up:
                await accounts.lock_account(connection, before["account_id"])
            key = await connection.fetchrow(
                "SELECT account_id, revoked_at FROM api_keys WHERE id = $1 FOR UPDATE", key_id
            )
            if key is None:
                raise Refused(f"there is no key {key_id}")
            if key["revoked_at"] is not None and event is not AuditEvent.KEY_REVOKED:
                raise Refused(f"the key {key_id} is revoked, for good")
            if own_only and await is_disabled_by_others(connection, key["account_id"], key_id, actor):
                raise Refused("this key was disabled by an operator, who alone can enable it")
            await connection.execute(
                f"UPDATE api_keys SET {_KEY_CHANGES[event]} WHERE id = $1",  # noqa: S608 -- ours
                key_id,
                *columns,
            )
            await connection.execute(_ENQUEUE, key_id)
            if sums_up:
                await accounts.sum_own_limits(connection, key["account_id"])
            await write_audit(connection, actor, event, key["account_id"], key_id)
        return str(key["account_id"]) if sums_up else ""

    async def replace_key(
        self, key_id: str, replacement: Callable[[ApiKey], Replacement], active_max: int, actor: Actor
    ) -> tuple[ApiKey, ApiKey]:
        """Replace a key by another; the old one ends at once or at a stated time."""
        async with self._postgres.transaction() as connection:
            account_id = await connection.fetchval("SELECT account_id FROM api_keys WHERE id = $1", key_id)
            if account_id is None:
                raise Refused(f"there is no key {key_id}")
            await _queue(connection, account_id)
            key = await connection.fetchrow(_KEY + " FOR UPDATE OF k", key_id)
            replaced_by = await connection.fetchval("SELECT id FROM api_keys WHERE replaces = $1", key_id)
            if replaced_by is not None:
                raise Refused(f"the key {key_id} was replaced by {replaced_by} already")
            new = replacement(api_key(key))
            await write_audit(connection, actor, AuditEvent.KEY_ROTATED, account_id, key_id)
            # The old key ends first: if it ends at once, it does not count towards the account's maximum.
            if new.old_ends_at is None:
                await connection.execute(_END.format("revoked_at = now()"), key_id)
                await write_audit(connection, actor, AuditEvent.KEY_REVOKED, account_id, key_id)
            else:
                await connection.execute(_END.format("expires_at = $2"), key_id, new.old_ends_at)
            await _insert(connection, new.key, new.digest, active_max)
            await connection.execute(_ENQUEUE, key_id)
            if new.key.limit is not None:
                await accounts.sum_own_limits(connection, account_id)
            await write_audit(connection, actor, AuditEvent.KEY_CREATED, account_id, new.key.id)
            ended = await connection.fetchrow(_KEY, key_id)
        return api_key(ended), new.key

    async def change_account(self, account_id: str, event: AuditEvent, actor: Actor) -> None:
        """Suspend or reinstate an account."""
        async with self._postgres.transaction() as connection:
            await accounts.change_account(connection, account_id, event, actor)

    async def pending(self, *, everything: bool = False, after: str = "", rows_max: int = 1000) -> list[str]:
        """Return ids of keys that are pending, the longest first; with `everything` of all keys after one, by id."""
        return await self._pending(_PENDING_KEYS[everything], (after,) if everything else (), rows_max)

    async def pending_accounts(self, *, everything: bool = False, after: str = "", rows_max: int = 1000) -> list[str]:
        """Return ids of accounts, as `pending` does of keys."""
        return await self._pending(_PENDING_ACCOUNTS[everything], (after,) if everything else (), rows_max)

    async def _pending(self, query: str, after: tuple[str, ...], rows_max: int) -> list[str]:
        async with self._postgres.transaction() as connection:
            return [found for (found,) in await connection.fetch(query, rows_max, *after)]

    async def settle(self, key_id: str, put: Callable[[bytes, KeyRecord], Awaitable[bool]]) -> bool:
        """Pass a key's present record to `put` while its row is locked, and delete its line in the outbox."""
        async with self._postgres.transaction() as connection:
            row = await connection.fetchrow(_RECORD, key_id)
            if row is None:  # deleted since, long after it ended
                return True
            done = await put(row["digest"], key_record(row))
            waited_s = await connection.fetchval(_SETTLE, key_id) if done else None
        if waited_s is not None:
            self._on_settled(waited_s)
        return done

    async def settle_account(self, account_id: str, put: Callable[[AccountRecord], Awaitable[bool]]) -> bool:
        """Pass an account's present record to `put`, as `settle` does for a key."""
        async with self._postgres.transaction() as connection:
            done, waited_s = await accounts.settle_account(connection, account_id, put)
        if waited_s is not None:
            self._on_settled(waited_s)
        return done

    async def outbox(self) -> tuple[int, float]:
        """Return the number of pending changes, and the age of the oldest in seconds; raises `StoreUnavailable`."""
        async with self._postgres.transaction(durable=False) as connection:
            return await outbox_of(connection)

    async def delete_ended(self, before: datetime, rows_max: int) -> int:
        """Delete keys that ended before a time, at most some; returns how many."""
        async with self._postgres.transaction() as connection:
            return await listings.delete_ended(connection, before, rows_max)


async def outbox_of(connection: Any) -> tuple[int, float]:  # noqa: ANN401 -- untyped driver
    """Return the number of pending changes and the age of the oldest in seconds, within a transaction."""
    count, oldest_s = await connection.fetchrow(_OUTBOX)
    return int(count), float(oldest_s)


def _sums_up(event: AuditEvent, capacity: int | None) -> bool:
    """Return whether a change of a key changes the sum of its account's own limits."""
    return event is AuditEvent.KEY_LIMITED or (event is AuditEvent.KEY_REVOKED and capacity is not None)


async def _queue(connection: Any, account_id: str) -> None:  # noqa: ANN401 -- untyped driver
    # The lock on the account serialises creations: two cannot both count one key below the maximum.
    account = await connection.fetchrow("SELECT suspended_at FROM accounts WHERE id = $1 FOR UPDATE", account_id)
    if account is None:
        raise Refused(f"there is no account {account_id}")
    if account["suspended_at"] is not None:
        raise Refused(f"the account {account_id} is suspended")


async def _insert(connection: Any, key: ApiKey, digest: bytes, active_max: int) -> None:  # noqa: ANN401 -- the same
    if await listings.active_count(connection, key.account_id, key.created_at) >= active_max:
        raise KeyLimitReached(f"api key limit reached (max {active_max} per account)")
    await connection.execute(
        "INSERT INTO api_keys (id, account_id, digest, name, hint, scopes, capacity, refill_per_s, created_at, "
        "expires_at, replaces, plan) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        key.id,
        key.account_id,
        digest,
        key.name,
        key.hint,
        sorted(key.scopes),
        *limit_columns(key.limit),
        key.created_at,
        key.expires_at,
        key.replaces,
        key.plan or None,
    )
