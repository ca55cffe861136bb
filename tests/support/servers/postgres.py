"""A fresh database in the real Postgres for each test that uses it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from authz.adapters.postgres.migrations import migrate
from authz.adapters.postgres.pool import Postgres

_numbers = itertools.count()

Opened = Callable[..., Awaitable[Postgres]]
"""Opens a pool on a URL that is closed after the test, with settings of `Postgres`."""


def on_database(postgres_url: str, name: str) -> str:
    """Point a URL to another database of the same server."""
    return urlsplit(postgres_url)._replace(path=f"/{name}").geturl()


@asynccontextmanager
async def database(postgres_url: str) -> AsyncIterator[str]:
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        yield on_database(postgres_url, name)
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()
        await asyncio.sleep(0)


async def migrated_database(postgres_url: str, name: str) -> str:
    """Create a database with the schema, and return its URL; it ends with its server."""
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    url = on_database(postgres_url, name)
    await migrate(url)
    return url


async def emptied(url: str) -> None:
    """Delete the rows of every table, past the triggers that keep the audit log."""
    session = await asyncpg.connect(url)
    await session.execute("SET session_replication_role = replica")
    names = await session.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migrations'"
    )
    await session.execute(f"TRUNCATE {', '.join(row['tablename'] for row in names)}")
    await session.close()


def processes(postmaster: int) -> list[int]:
    """Return a postmaster and its children: without them, its backends would keep answering."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]
