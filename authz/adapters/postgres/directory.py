"""The directory of keys in Postgres: reads many records in one query and locks them while they are written to Redis.

Changes of keys are in `keys.py`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from authz.adapters.postgres.pool import Postgres
from authz.adapters.postgres.rows import ACCOUNT_RECORD_COLUMNS, RECORD_COLUMNS, account_record, key_record
from authz.core.check import Held, KeyRecord, KeyState

# The share locks keep a revocation or suspension from committing while an older record is on its way to Redis. The
# account is locked first, as in every change. Rows that are being changed are skipped: one of them must not delay the
# others. The second part of the query finds out that a skipped row exists.
# Keys that have ended lock no account, so that many of them do not delay its suspension.
_ENDED = "least(k.revoked_at, k.expires_at) < now()"
_HELD = (
    f"WITH held AS (SELECT k.digest, {RECORD_COLUMNS}, {ACCOUNT_RECORD_COLUMNS} "  # noqa: S608 -- ours
    f"FROM api_keys k JOIN accounts a ON a.id = k.account_id WHERE k.digest = ANY($1) AND ({_ENDED}) IS NOT TRUE "
    "FOR SHARE OF a, k SKIP LOCKED), "
    f"ended AS (SELECT k.digest, {RECORD_COLUMNS} FROM api_keys k WHERE k.digest = ANY($1) AND {_ENDED} "
    "FOR SHARE OF k SKIP LOCKED) "
    "SELECT e.digest AS existing, h.* FROM api_keys e LEFT JOIN (SELECT * FROM held UNION ALL "
    "SELECT ended.*, NULL, NULL, NULL, NULL FROM ended) h ON h.digest = e.digest WHERE e.digest = ANY($1)"
)
_UNKNOWN = Held(KeyRecord(KeyState.UNKNOWN))


class PostgresDirectory:
    """Reads the records of keys (`service.ports.KeyDirectory`)."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        postgres.prime(_HELD)

    async def probe(self) -> None:
        """Check whether keys can be read; raises `StoreUnavailable`, also where the schema is missing."""
        try:
            async with self._postgres.transaction(durable=False) as connection:
                await connection.fetch(_HELD, [])
        finally:
            self._postgres.keep_warm()

    @asynccontextmanager
    async def hold(self, next_digests: Callable[[], Sequence[bytes]]) -> AsyncIterator[Mapping[bytes, Held]]:
        """Read key records and lock them (`service.ports.KeyDirectory`)."""
        async with self._postgres.transaction(durable=False) as connection:
            digests = next_digests()
            rows = await connection.fetch(_HELD, digests) if digests else []
            records = dict.fromkeys(digests, _UNKNOWN)
            for row in rows:
                if row["digest"] is None:
                    del records[row["existing"]]
                else:
                    records[row["digest"]] = _held(row)
            yield records


def _held(row: Any) -> Held:  # noqa: ANN401 -- untyped driver
    if row["account_revision"] is None:
        return Held(key_record(row))
    return Held(key_record(row), account_record(row, row["account_id"]))
