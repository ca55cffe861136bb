"""The last use of each key, in Postgres.

Keys and their changes are in `keys.py`.
"""

from collections.abc import Mapping
from datetime import datetime

import orjson

from authz.adapters.postgres.pool import Postgres

# One document, because the driver takes three times as long to encode arrays, and checks wait. Every writer uses the
# same order: two that lock the same rows in different orders would block each other.
_NOTE = (
    "INSERT INTO key_uses AS u (key_id, last_used_at) "
    "SELECT key, value::timestamptz FROM jsonb_each_text($1) ORDER BY key "
    "ON CONFLICT (key_id) DO UPDATE SET last_used_at = greatest(u.last_used_at, excluded.last_used_at)"
)


class PostgresUses:
    """Stores the last use of keys (`service.ports.UseLedger`)."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def note_uses(self, uses: Mapping[str, datetime]) -> None:
        """Store when keys were used, by id."""
        noted = orjson.dumps(uses).decode()
        async with self._postgres.transaction(durable=False) as connection:
            await connection.execute(_NOTE, noted)
