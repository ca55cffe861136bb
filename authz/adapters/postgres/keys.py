"""Accounts, keys and pending changes in Postgres: the authoritative data that Redis projects.

Reads for checks are in `directory.py`, the rules of the use cases in `service/keys/admin.py`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from authz.adapters.postgres.audit import is_disabled_by_others, write_audit
from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Account, Actor, ApiKey, AuditEvent, Replacement
from authz.core.check import KeyRecord, KeyState
from authz.core.errors import KeyLimitReached, Refused
from authz.core.limits import Limit

# Columns are named, never *: a release works with the schema of the next one.
RECORD_COLUMNS = (
    "k.id, k.account_id, k.scopes, k.capacity, k.refill_per_s, k.expires_at, k.disabled_at, k.revoked_at, k.revision, "
    "a.suspended_at"
)
"""What `key_record` reads, of a key `k` and its account `a`."""

_ACCOUNTS = "SELECT id, name, email, created_at, suspended_at FROM accounts ORDER BY created_at, id"
_RECORD = f"SELECT k.digest, {RECORD_COLUMNS} FROM api_keys k JOIN accounts a ON a.id = k.account_id WHERE k.id = $1"  # noqa: S608 -- ours
_CHANGED = "SELECT account_id, revoked_at FROM api_keys WHERE id = $1 FOR UPDATE"
_KEY = (
    "SELECT k.id, k.account_id, k.name, k.hint, k.scopes, k.capacity, k.refill_per_s, k.created_at, k.expires_at, "
    "k.disabled_at, k.revoked_at, k.revision, k.replaces, u.last_used_at "
    "FROM api_keys k LEFT JOIN key_uses u ON u.key_id = k.id WHERE {} ORDER BY k.created_at, k.id"
)
# The share locks keep a revocation or suspension from committing while an older record is on its way to Redis. The
# account comes first, as it does for those who change it.
_STILL = " FOR SHARE OF a, k"
_ACTIVE = (
    "SELECT count(*) FROM api_keys "
    "WHERE account_id = $1 AND revoked_at IS NULL AND (expires_at > $2 OR expires_at IS NULL)"
)
_ENQUEUE = (
    "INSERT INTO key_outbox (key_id, revision) SELECT id, revision FROM api_keys WHERE {} = $1 "
    "ON CONFLICT (key_id) DO UPDATE SET revision = excluded.revision"
)
_END = "UPDATE api_keys SET {} WHERE id = $1"
_KEY_CHANGES = {
    AuditEvent.KEY_REVOKED: "revoked_at = coalesce(revoked_at, now())",
    AuditEvent.KEY_DISABLED: "disabled_at = coalesce(disabled_at, now())",
    AuditEvent.KEY_ENABLED: "disabled_at = NULL",
    AuditEvent.KEY_LIMITED: "capacity = $2, refill_per_s = $3",
}
_ACCOUNT_CHANGES = {
    AuditEvent.ACCOUNT_SUSPENDED: "suspended_at = coalesce(suspended_at, now())",
    AuditEvent.ACCOUNT_REINSTATED: "suspended_at = NULL",
}


class PostgresKeys:
    """Stores and changes accounts and keys (`service.ports.KeyLedger`)."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def add_account(self, account: Account, actor: Actor) -> None:
        """Store a new account."""
        async with self._postgres.transaction() as connection:
            await connection.execute(
                "INSERT INTO accounts (id, name, email, created_at) VALUES ($1, $2, $3, $4)",
                account.id,
                account.name,
                account.email,
                account.created_at,
            )
            await write_audit(connection, actor, AuditEvent.ACCOUNT_CREATED, account.id)

    async def accounts(self) -> list[Account]:
        """Return every account, oldest first."""
        async with self._postgres.transaction() as connection:
            rows = await connection.fetch(
                "SELECT id, name, email, created_at, suspended_at FROM accounts ORDER BY created_at, id"
            )
        return [Account(**dict(row)) for row in rows]

    async def add_key(
        self,
        key: ApiKey,
        digest: bytes,
        active_max: int,
        actor: Actor,
        event: AuditEvent = AuditEvent.KEY_CREATED,
    ) -> None:
        """Store a new key, if its account may have another."""
        async with self._postgres.transaction() as connection:
            await _queue(connection, key.account_id)
            await _insert(connection, key, digest, active_max)
            await write_audit(connection, actor, event, key.account_id, key.id)

    async def keys(self, account_id: str) -> list[ApiKey]:
        """Return an account's keys, oldest first."""
        async with self._postgres.transaction() as connection:
            rows = await connection.fetch(_KEY.format("k.account_id = $1"), account_id)
        return [_key(row) for row in rows]

    async def find_keys(self, digest: bytes, hint: str) -> list[ApiKey]:
        """Return the keys with a digest or with a hint, oldest first; an empty digest or hint matches none."""
        async with self._postgres.transaction() as connection:
            rows = await connection.fetch(_KEY.format("k.digest = $1 OR k.hint = $2"), digest, hint)
        return [_key(row) for row in rows]

    async def key(self, key_id: str) -> ApiKey:
        """Return one key."""
        async with self._postgres.transaction() as connection:
            row = await connection.fetchrow(_KEY.format("k.id = $1"), key_id)
        if row is None:
            raise Refused(f"there is no key {key_id}")
        return _key(row)

    async def change_key(
        self, key_id: str, event: AuditEvent, actor: Actor, limit: Limit | None = None, *, own_only: bool = False
    ) -> None:
        """Revoke, disable, enable or limit a key."""
        columns = _limit_columns(limit) if event is AuditEvent.KEY_LIMITED else ()
        async with self._postgres.transaction() as connection:
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
            await connection.execute(_ENQUEUE.format("id"), key_id)
            await write_audit(connection, actor, event, key["account_id"], key_id)

    async def replace_key(
        self, key_id: str, replacement: Callable[[ApiKey], Replacement], active_max: int, actor: Actor
    ) -> tuple[ApiKey, ApiKey]:
        """Replace a key by another; the old one ends at once or at a stated time."""
        async with self._postgres.transaction() as connection:
            account_id = await connection.fetchval("SELECT account_id FROM api_keys WHERE id = $1", key_id)
            if account_id is None:
                raise Refused(f"there is no key {key_id}")
            await _queue(connection, account_id)
            key = await connection.fetchrow(_KEY.format("k.id = $1") + " FOR UPDATE OF k", key_id)
            replaced_by = await connection.fetchval("SELECT id FROM api_keys WHERE replaces = $1", key_id)
            if replaced_by is not None:
                raise Refused(f"the key {key_id} was replaced by {replaced_by} already")
            new = replacement(_key(key))
            await write_audit(connection, actor, AuditEvent.KEY_ROTATED, account_id, key_id)
            # The old key ends first: if it ends at once, it does not count towards the account's maximum.
            if new.old_ends_at is None:
                await connection.execute(_END.format("revoked_at = now()"), key_id)
                await write_audit(connection, actor, AuditEvent.KEY_REVOKED, account_id, key_id)
            else:
                await connection.execute(_END.format("expires_at = $2"), key_id, new.old_ends_at)
            await _insert(connection, new.key, new.digest, active_max)
            await connection.execute(_ENQUEUE.format("id"), key_id)
            await write_audit(connection, actor, AuditEvent.KEY_CREATED, account_id, new.key.id)
            ended = await connection.fetchrow(_KEY.format("k.id = $1"), key_id)
        return _key(ended), new.key

    async def change_account(self, account_id: str, event: AuditEvent, actor: Actor) -> list[str]:
        """Suspend or reinstate an account with all its keys."""
        async with self._postgres.transaction() as connection:
            done = await connection.fetchval(
                f"UPDATE accounts SET {_ACCOUNT_CHANGES[event]} WHERE id = $1 RETURNING id",  # noqa: S608 -- ours
                account_id,
            )
            if done is None:
                raise Refused(f"there is no account {account_id}")
            # A new revision for each key: Redis must regard the record that follows as newer.
            rows = await connection.fetch(
                "UPDATE api_keys SET revision = revision WHERE account_id = $1 RETURNING id", account_id
            )
            await connection.execute(_ENQUEUE.format("account_id"), account_id)
            await write_audit(connection, actor, event, account_id)
        return [row["id"] for row in rows]

    async def pending(self, *, everything: bool = False) -> list[str]:
        """Return the ids of the pending keys, the oldest first, or of all keys."""
        query = "SELECT id FROM api_keys" if everything else "SELECT key_id FROM key_outbox ORDER BY created_at"
        async with self._postgres.transaction() as connection:
            return [key_id for (key_id,) in await connection.fetch(query)]

    async def settle(self, key_id: str, put: Callable[[bytes, KeyRecord], Awaitable[bool]]) -> bool:
        """Pass a key's locked present record to `put`, and remove the key from the outbox if that returns true."""
        async with self._postgres.transaction() as connection:
            row = await connection.fetchrow(_RECORD + _STILL, key_id)
            done = await put(row["digest"], key_record(row))
            if done:
                await connection.execute("DELETE FROM key_outbox WHERE key_id = $1", key_id)
        return done


async def _queue(connection: Any, account_id: str) -> None:  # noqa: ANN401 -- untyped driver
    # The lock on the account serialises creations: two cannot both count one key below the maximum.
    account = await connection.fetchrow("SELECT suspended_at FROM accounts WHERE id = $1 FOR UPDATE", account_id)
    if account is None:
        raise Refused(f"there is no account {account_id}")
    if account["suspended_at"] is not None:
        raise Refused(f"the account {account_id} is suspended")


async def _insert(connection: Any, key: ApiKey, digest: bytes, active_max: int) -> None:  # noqa: ANN401 -- the same
    if await connection.fetchval(_ACTIVE, key.account_id, key.created_at) >= active_max:
        raise KeyLimitReached(f"api key limit reached (max {active_max} per account)")
    await connection.execute(
        "INSERT INTO api_keys (id, account_id, digest, name, hint, scopes, capacity, refill_per_s, created_at, "
        "expires_at, replaces) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        key.id,
        key.account_id,
        digest,
        key.name,
        key.hint,
        sorted(key.scopes),
        *_limit_columns(key.limit),
        key.created_at,
        key.expires_at,
        key.replaces,
    )


def _limit_columns(limit: Limit | None) -> tuple[int | None, float | None]:
    return (None, None) if limit is None else (limit.capacity, limit.refill_per_s)


def _limit(row: Any) -> Limit | None:  # noqa: ANN401 -- untyped driver
    return None if row["capacity"] is None else Limit(row["capacity"], row["refill_per_s"])


def key_record(row: Any) -> KeyRecord:  # noqa: ANN401 -- untyped driver
    """Return the record that Redis projects, from a row of `RECORD_COLUMNS`."""
    states = (
        (KeyState.REVOKED, row["revoked_at"]),
        (KeyState.SUSPENDED, row["suspended_at"]),
        (KeyState.DISABLED, row["disabled_at"]),
    )
    expires_at = row["expires_at"]
    return KeyRecord(
        state=next((state for state, since in states if since is not None), KeyState.ACTIVE),
        revision=row["revision"],
        key_id=row["id"],
        account_id=row["account_id"],
        scopes=frozenset(row["scopes"]),
        limit=_limit(row),
        expires_at_ms=0 if expires_at is None else int(expires_at.timestamp() * 1000),
    )


def _key(row: Any) -> ApiKey:  # noqa: ANN401 -- untyped driver
    plain = {name: row[name] for name in ("id", "account_id", "name", "hint", "created_at", "expires_at")}
    times = {name: row[name] for name in ("disabled_at", "revoked_at", "last_used_at", "revision", "replaces")}
    return ApiKey(**plain, **times, scopes=frozenset(row["scopes"]), limit=_limit(row))
