"""The SQL of lists of keys: a page at a time, each found through an index, however many dead keys an account has.

Single keys and their changes are `keys.py`.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from authz.adapters.postgres.rows import KEY_COLUMNS, api_key
from authz.core.accounts import ApiKey, EmailAccounts

_ANY_KEYS = f"SELECT {KEY_COLUMNS} FROM api_keys k LEFT JOIN key_uses u ON u.key_id = k.id WHERE "  # noqa: S608 -- ours
_KEYS = f"{_ANY_KEYS}k.account_id = $1 AND "
_FOUND_MAX = 100
_LIVE = "k.revoked_at IS NULL AND (k.expires_at > now() OR k.expires_at IS NULL) "
_PLANS = f"SELECT plan, count(*) AS keys FROM api_keys k WHERE plan IS NOT NULL AND {_LIVE}GROUP BY plan LIMIT 1000"  # noqa: S608 -- ours
_AT = "(SELECT created_at, id FROM api_keys WHERE id = $2)"
_NEWEST = "ORDER BY k.created_at DESC, k.id DESC LIMIT "


async def oldest_keys(connection: Any, account_id: str, after: str, rows_max: int) -> list[ApiKey]:  # noqa: ANN401 -- untyped driver
    """Return keys, oldest first, after the key with the id `after`, or from the first on."""
    start = f"(k.created_at, k.id) > {_AT} " if after else "$2 = '' "
    query = f"{_KEYS}{start}ORDER BY k.created_at, k.id LIMIT $3"
    return [api_key(row) for row in await connection.fetch(query, account_id, after, rows_max)]


async def latest_keys(
    connection: Any,  # noqa: ANN401 -- as above
    account_id: str,
    before: str,
    rows_max: int,
    *,
    ended_only: bool,
) -> list[ApiKey]:
    """Return keys, newest first, before the key with the id `before`, or from the last on."""
    start = f"(k.created_at, k.id) < {_AT} " if before else "$2 = '' "
    ended = f"AND NOT ({_LIVE}) " if ended_only else ""
    query = f"{_KEYS}{start}{ended}{_NEWEST}$3"
    return [api_key(row) for row in await connection.fetch(query, account_id, before, rows_max)]


async def live_keys(connection: Any, account_id: str, rows_max: int) -> list[ApiKey]:  # noqa: ANN401 -- as above
    """Return the newest keys that are neither revoked nor expired, newest first."""
    return [api_key(row) for row in await connection.fetch(f"{_KEYS}{_LIVE}{_NEWEST}$2", account_id, rows_max)]


async def active_count(connection: Any, account_id: str, at: datetime) -> int:  # noqa: ANN401 -- as above
    """Return how many keys of an account are neither revoked nor expired at a time."""
    query = (
        "SELECT count(*) FROM api_keys "
        "WHERE account_id = $1 AND revoked_at IS NULL AND (expires_at > $2 OR expires_at IS NULL)"
    )
    return int(await connection.fetchval(query, account_id, at))


async def find_keys(connection: Any, digest: bytes, hint: str) -> list[ApiKey]:  # noqa: ANN401 -- as above
    """Return the keys with a digest or with a hint, oldest first, at most `_FOUND_MAX`."""
    query = f"{_ANY_KEYS}k.digest = $1 OR k.hint = $2 ORDER BY k.created_at, k.id LIMIT $3"
    return [api_key(row) for row in await connection.fetch(query, digest, hint, _FOUND_MAX)]


async def key_names(connection: Any, account_id: str, key_ids: Collection[str]) -> dict[str, str]:  # noqa: ANN401 -- as above
    """Return the names of some keys of an account, by id."""
    rows = await connection.fetch(
        "SELECT id, name FROM api_keys WHERE account_id = $1 AND id = ANY($2::text[])", account_id, list(key_ids)
    )
    return {row["id"]: row["name"] for row in rows}


async def delete_ended(connection: Any, before: datetime, rows_max: int) -> int:  # noqa: ANN401 -- as above
    """Delete keys that ended before a time and are settled; several processes may do so at once."""
    return int(await connection.fetchval("SELECT delete_ended_keys($1, $2)", before, rows_max))


async def accounts_of(connection: Any, digests: Collection[bytes]) -> dict[bytes, str]:  # noqa: ANN401 -- as above
    """Return the accounts of those of the digests that are stored."""
    rows = await connection.fetch(
        "SELECT digest, account_id FROM api_keys WHERE digest = ANY($1::bytea[])", list(digests)
    )
    return {row["digest"]: row["account_id"] for row in rows}


async def accounts_of_emails(connection: Any, emails: Collection[str]) -> dict[str, EmailAccounts]:  # noqa: ANN401 -- as above
    """Return the accounts of those of the addresses that have any; accounts with an owner have the owner's address."""
    rows = await connection.fetch(
        "SELECT email, account_id AS id, email_verified_at IS NOT NULL AS is_known FROM owners "
        "WHERE email = ANY($1::text[]) UNION ALL "
        "SELECT a.email, a.id, true FROM accounts a WHERE a.email = ANY($1::text[]) "
        "AND NOT EXISTS (SELECT 1 FROM owners o WHERE o.account_id = a.id)",
        list(emails),
    )
    found: dict[str, EmailAccounts] = {}
    for row in rows:
        before = found.get(row["email"], EmailAccounts((), is_unverified=False))
        ids = (*before.account_ids, row["id"]) if row["is_known"] else before.account_ids
        found[row["email"]] = EmailAccounts(ids, before.is_unverified or not row["is_known"])
    return found


async def live_counts(connection: Any, account_ids: Collection[str]) -> dict[str, int]:  # noqa: ANN401 -- as above
    """Return how many live keys each existing account has, if it is not suspended."""
    rows = await connection.fetch(
        f"SELECT a.id, count(k.id) AS live FROM accounts a LEFT JOIN api_keys k ON k.account_id = a.id AND {_LIVE}"  # noqa: S608 -- ours
        "WHERE a.id = ANY($1::text[]) AND a.suspended_at IS NULL GROUP BY a.id",
        list(account_ids),
    )
    return {row["id"]: row["live"] for row in rows}


async def plans(connection: Any) -> dict[str, int]:  # noqa: ANN401 -- untyped driver
    """Return how many live keys have each plan."""
    return {row["plan"]: row["keys"] for row in await connection.fetch(_PLANS)}
