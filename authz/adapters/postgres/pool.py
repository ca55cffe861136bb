"""The connection pool to Postgres, its deadlines, and the migrations.

What is in the tables is `postgres_keys.py`; how they look is `sql/`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from importlib.resources import files
from typing import Any

import asyncpg

from authz.core.errors import StoreUnavailable

_MIGRATION_LOCK = 0x61757468  # any number, as long as every migrating process takes the same
_FROZEN_MS = 1000  # past its deadline, a process that runs has ended its transaction
_FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
_HOPELESS = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)


class Postgres:
    """A pool of connections, made as they are needed; each use has a deadline, the wait for a connection included."""

    def __init__(self, url: str, *, deadline_s: float, pool_max: int) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._pool_max = pool_max
        self._pool: Any = None
        self.is_up = False
        self.reached = asyncio.Event()

    async def start(self) -> None:
        """Make the pool; connects to nothing yet."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._pool_max,
            max_inactive_connection_lifetime=0,
            reset=_nothing_to_reset,
            # A process that is frozen while it holds a key still must not keep that key from being revoked.
            server_settings={"idle_in_transaction_session_timeout": str(int(self._deadline_s * 1000) + _FROZEN_MS)},
        )

    async def close(self) -> None:
        """Close every connection, at once."""
        if self._pool is not None:
            self._pool.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Run the block in a transaction on a connection; raises as `connection` does."""
        async with self.connection() as connection, transaction(connection):
            yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Run the block with a connection; raises `StoreUnavailable` past the deadline or on failure.

        Drivers' messages may quote values, so only their kind is passed on.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                connection = await self._pool.acquire()
                try:
                    yield connection
                except asyncio.CancelledError:
                    # Past the deadline nobody waits for what is under way; the server ends it when the connection goes.
                    connection.terminate()
                    raise
                finally:
                    await self._pool.release(connection)
        except _FAILURES as error:
            self.is_up = False
            kind = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
            raise StoreUnavailable("postgres", kind, transient=not isinstance(error, _HOPELESS)) from error
        self.is_up = True
        self.reached.set()


@asynccontextmanager
async def transaction(connection: Any) -> AsyncIterator[None]:  # noqa: ANN401 -- asyncpg has no types
    """Run the block in a transaction on a connection of the pool."""
    begun = connection.transaction()
    try:
        await begun.start()
        yield
        await begun.commit()
    except asyncio.CancelledError:  # the connection goes, and the transaction with it
        raise
    except BaseException:
        if not connection.is_closed():
            await begun.rollback()
        raise


async def _nothing_to_reset(_connection: Any) -> None:  # noqa: ANN401 -- asyncpg has no types
    """Stand in for the driver's reset of settings, locks and cursors, of which we leave none: a round trip less."""


async def migrate(url: str) -> list[str]:
    """Bring the schema up to date; returns the names of the migrations applied.

    Safe to run from several processes at once. Raises `StoreUnavailable` when Postgres is out of reach, and when a
    migration that was applied has changed since.
    """
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
            return await _migrated(connection)
        finally:
            await connection.close()
    except _FAILURES as error:
        raise StoreUnavailable("postgres", f"{type(error).__name__}: {error}") from error


async def _migrated(connection: Any) -> list[str]:  # noqa: ANN401 -- asyncpg has no types
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, checksum text NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT now())"
    )
    known = dict(await connection.fetch("SELECT name, checksum FROM migrations"))
    applied: list[str] = []
    for file in sorted(files("authz.adapters.postgres").joinpath("sql").iterdir(), key=lambda file: file.name):
        source = file.read_text()
        checksum = sha256(source.encode()).hexdigest()
        if file.name in known:
            if known[file.name] != checksum:
                raise StoreUnavailable("postgres", f"migration {file.name} was changed after it was applied")
            continue
        async with connection.transaction():
            await connection.execute(source)
            await connection.execute("INSERT INTO migrations (name, checksum) VALUES ($1, $2)", file.name, checksum)
        applied.append(file.name)
    return applied
