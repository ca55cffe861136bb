"""Brings the schema up to date, one migration in one transaction, beside processes that read it.

What the tables look like is `sql/`; what the application's own role may do with them is `grants.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Final

import asyncpg

from authz.adapters.postgres.connecting import Connector
from authz.adapters.postgres.failures import FAILURES, description
from authz.adapters.postgres.grants import grant
from authz.adapters.postgres.session import Session
from authz.core.errors import StoreUnavailable

# Any numbers, as long as every migrating process takes the same.
_TURN_LOCK: Final = 0x61757468
_LOCK: Final = 0x61757469
_CONNECT_S: Final = 10.0
_SECOND_S: Final = 2.0
_STATEMENT_S: Final = 600.0
# While a migration waits for a table, everybody else who wants the table waits behind it. So it waits for less time
# than a check does, lets the others pass, and tries again.
_LOCK_WAIT_MS: Final = 100
_PAUSE_S: Final = 0.4
_TRIES_PER_LINE: Final = 20
_PATIENCE_S: Final = 300.0
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, checksum text NOT NULL, "
    "applied_at timestamptz NOT NULL DEFAULT now())"
)
_KNOWN: Final = "SELECT name, checksum FROM migrations"
_ANOTHER: Final = "another process migrates"

Report = Callable[[str], None]
"""Called with one line for each step."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `sql/`."""

    name: str
    source: str

    @property
    def checksum(self) -> str:
        """Return what tells whether a migration was changed after it was applied."""
        return sha256(self.source.encode()).hexdigest()


async def migrate(
    url: str | Callable[[], str],
    report: Report = lambda _line: None,
    *,
    app_role: str = "",
    patience_s: float = _PATIENCE_S,
) -> list[str]:
    """Migrate the schema to the newest version; returns the names of the migrations applied.

    An `app_role` receives the privileges that the application needs.

    Safe to run from several processes at once, and while others use the tables: a table that somebody uses for long is
    asked for again and again, up to `patience_s` seconds for each migration. Raises `StoreUnavailable` when Postgres
    is unavailable or a table did not become free, and when a migration that was applied has changed since.
    """
    sessions = [await Connector(url, connect_s=_CONNECT_S).connect()]
    try:
        # One transaction stays open until the end: whoever migrates as well waits for all of it.
        whole = _Turn(sessions[0], _TURN_LOCK, report, patience_s)
        await whole.take()
        try:
            async with asyncio.timeout(_SECOND_S):
                sessions.append(await Connector(url, connect_s=_SECOND_S).connect())
        except (StoreUnavailable, TimeoutError):
            # A pooler may have no other. Then processes take turns with each migration, which is still applied once.
            await whole.session.rollback()
            report("there is one connection only; another process may apply some of the migrations")
        session = sessions[-1]
        turn = _Turn(session, _LOCK, report, patience_s)
        await turn.take()
        await session.run(_TABLE)
        if newer := await _newer(session):
            report(newer)
        await session.commit()
        applied = await _applied(turn)
        if app_role:
            await turn.take()
            await grant(session, app_role)
            await session.commit()
            report(f"{app_role}: privileges granted")
    except FAILURES as error:
        message = f"{type(error).__name__}: {error}" if isinstance(error, asyncpg.PostgresError) else description(error)
        raise StoreUnavailable("postgres", message) from error
    finally:
        for session in sessions:
            session.terminate()
    return applied


async def refuse_newer(session: Session) -> None:
    """Raise `StoreUnavailable` if the schema has a migration that this release does not have."""
    if newer := await _newer(session):
        raise StoreUnavailable("postgres", f"{newer}: use the newer release", transient=False)


async def _newer(session: Session) -> str:
    shipped = {migration.name for migration in shipped_migrations()}
    newer = sorted({row["name"] for row in await session.fetch(_KNOWN)} - shipped)
    return f"the schema is newer than this release, which has no {newer[-1]}" if newer else ""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The schema of a database beside that of this release: names of migrations, in the order in which they apply."""

    applied: list[str]
    missing: list[str]
    newer: list[str]
    changed: list[str]

    @property
    def version(self) -> str:
        """Return the name of the newest migration that was applied, empty without any."""
        return max(self.applied, default="")


async def schema_state(session: Session) -> SchemaState:
    """Compare the schema with this release, within the present transaction."""
    shipped = {migration.name: migration.checksum for migration in shipped_migrations()}
    exists = await session.fetchval("SELECT to_regclass('migrations') IS NOT NULL")
    known: dict[str, str] = {row["name"]: row["checksum"] for row in await session.fetch(_KNOWN)} if exists else {}
    return SchemaState(
        applied=sorted(known),
        missing=[name for name in shipped if name not in known],
        newer=sorted(known.keys() - shipped.keys()),
        changed=sorted(name for name in known.keys() & shipped.keys() if known[name] != shipped[name]),
    )


def shipped_migrations() -> Sequence[Migration]:
    """Return every migration of this release, in the order in which they apply."""
    folder = files("authz.adapters.postgres").joinpath("sql")
    return [Migration(file.name, file.read_text()) for file in sorted(folder.iterdir(), key=lambda file: file.name)]


class _Turn:
    """A connection that waits for locks a moment at a time, so that nobody waits behind it for longer."""

    def __init__(self, session: Session, lock: int, report: Report, patience_s: float) -> None:
        self.session = session
        self.report = report
        self._lock = lock
        self._patience_s = patience_s

    async def take(self, migration: Migration | None = None) -> bool:
        """Begin a transaction in which nobody else migrates, and apply a migration in it; tell whether that was new."""
        loop = asyncio.get_running_loop()
        ends_at_s, tries = loop.time() + self._patience_s, 0
        while True:
            await self.session.begin(_STATEMENT_S)
            busy = _ANOTHER
            try:
                await self.session.run(f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}")
                # Such a lock ends with its transaction, also behind a pooler, where one of a session would stay with
                # the server's connection.
                await self.session.execute("SELECT pg_advisory_xact_lock($1)", self._lock)
                if migration is None:
                    return False
                busy = f"{migration.name}: a table is in use"
                return await _applied_once(self, migration)
            except asyncpg.LockNotAvailableError:
                if loop.time() >= ends_at_s:
                    was = "another process migrated" if busy == _ANOTHER else busy.replace(" is ", " was ")
                    raise StoreUnavailable("postgres", f"{was} for {self._patience_s:.0f} s") from None
                await self.session.rollback()
                if tries % _TRIES_PER_LINE == 0:
                    self.report(f"{busy}; trying again")
                tries += 1
                await asyncio.sleep(_PAUSE_S)


async def _applied(turn: _Turn) -> list[str]:
    applied: list[str] = []
    for migration in shipped_migrations():
        started_s = asyncio.get_running_loop().time()
        if await turn.take(migration):
            applied.append(migration.name)
        await turn.session.commit()
        if applied[-1:] == [migration.name]:
            turn.report(f"{migration.name}: applied in {asyncio.get_running_loop().time() - started_s:.1f} s")
    return applied


async def _applied_once(turn: _Turn, migration: Migration) -> bool:
    session = turn.session
    await session.run(_TABLE)
    known: dict[str, str] = {row["name"]: row["checksum"] for row in await session.fetch(_KNOWN)}
    if migration.name in known:
        if known[migration.name] != migration.checksum:
            raise StoreUnavailable("postgres", f"migration {migration.name} was changed after it was applied")
        return False
    turn.report(f"{migration.name}: applying")
    await session.run(migration.source)
    await session.execute("INSERT INTO migrations (name, checksum) VALUES ($1, $2)", migration.name, migration.checksum)
    return True
