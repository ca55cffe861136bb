"""A standby is promoted, the former primary joins as its standby and is promoted in turn: reads and writes go on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
from longrun.pooler_mixing import key_digest, key_id, make_account
from support.servers.postgres import Opened
from support.servers.postgres_variants import TcpPostgres

from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.migrations import migrate
from authz.core.accounts import Actor, AuditEvent
from authz.core.check import KeyState
from authz.core.errors import StoreUnavailable

ME = Actor("operator:ada", "local")
WRITES_WITHIN_S = 5
_FOR_REWIND = ("wal_log_hints=on", "full_page_writes=on", "wal_keep_size=128")


@pytest.fixture
def pair(folder: Path) -> Iterator[tuple[TcpPostgres, TcpPostgres]]:
    """A primary and its streaming standby."""
    for name in ("one", "two"):
        (folder / name).mkdir()
    primary = TcpPostgres(folder / "one", *_FOR_REWIND)
    standby = TcpPostgres(folder / "two", *_FOR_REWIND, standby_of=primary)
    primary.start()
    try:
        standby.start()
        yield primary, standby
    finally:
        standby.stop()
        primary.stop()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("rejoin", ["pg_rewind", "pg_basebackup"])
async def test_a_switch_and_a_switch_back_cost_no_key_and_few_seconds_of_writes(
    pair: tuple[TcpPostgres, TcpPostgres], opened: Opened, rejoin: str
) -> None:
    await migrate(pair[0].url)
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in pair)
    postgres = await opened(f"postgresql://postgres@{hosts}/postgres", deadline_s=1)
    keys = PostgresKeys(postgres)
    await make_account(keys, 1)
    former, present = pair
    took_s = []
    async with asked(PostgresDirectory(postgres)) as states:
        for turn in range(2):
            await until_replayed(former)
            await asyncio.to_thread(former.kill)
            await asyncio.to_thread(present.promote)
            took_s.append(await until_writes_work(keys, AuditEvent.KEY_ENABLED if turn else AuditEvent.KEY_DISABLED))
            if turn == 0:
                await asyncio.to_thread(former.rejoin, present, rejoin)
            former, present = present, former
    assert max(took_s) < WRITES_WITHIN_S
    assert set(states) == {KeyState.ACTIVE}  # no other one, and never UNKNOWN, which is a 401
    states.clear()
    async with asked(PostgresDirectory(postgres)) as states:
        await asyncio.sleep(0.2)
    assert len(states) > 1


@asynccontextmanager
async def asked(directory: PostgresDirectory) -> AsyncIterator[list[KeyState]]:
    """Load a key again and again meanwhile; yields the states that it had."""
    states: list[KeyState] = []

    async def ask() -> None:
        digest = key_digest(1, 1)
        while True:
            with suppress(StoreUnavailable):
                async with directory.hold(lambda: [digest]) as records:
                    states.extend(held.key.state for held in records.values())
            await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    try:
        yield states
    finally:
        asking.cancel()
        await asyncio.wait([asking])


async def until_writes_work(keys: PostgresKeys, event: AuditEvent) -> float:
    """Change a key until that succeeds; returns the seconds it took since the promotion."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    while True:
        with suppress(StoreUnavailable):
            await keys.change_key(key_id(1, 0), event, ME)
            return loop.time() - started_s
        await asyncio.sleep(0.02)


async def until_replayed(primary: TcpPostgres) -> None:
    """Wait until the standby has what the primary has."""
    connection = await asyncpg.connect(primary.url)
    try:
        written = await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        async with asyncio.timeout(20):
            while not await connection.fetchval(
                "SELECT bool_and(replay_lsn >= $1::text::pg_lsn) FROM pg_stat_replication", written
            ):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()
