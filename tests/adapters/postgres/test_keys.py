"""The pool's deadlines and the migrations, with the real Postgres hung, gone and raced."""

import asyncio
import os
import time
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import asyncpg
import pytest
from support.servers.postgres import on_database, processes

from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.migrations import migrate
from authz.adapters.postgres.pool import Postgres
from authz.core.errors import StoreUnavailable
from authz.demo.servers import PostgresServer


async def ping(postgres: Postgres) -> None:
    async with postgres.transaction() as connection:
        await connection.execute("SELECT 1")


async def test_migrations_apply_once_whoever_comes_first(empty_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_url) for _ in range(5)))
    assert sorted(len(names) for names in applied)[:-1] == [0, 0, 0, 0]
    assert "0001_accounts_and_keys.sql" in max(applied, key=len)
    assert await migrate(empty_url) == []


async def test_a_migration_that_changed_after_it_was_applied_is_refused(empty_url: str) -> None:
    await migrate(empty_url)
    connection = await asyncpg.connect(empty_url)
    await connection.execute("UPDATE migrations SET checksum = 'other'")
    await connection.close()
    with pytest.raises(StoreUnavailable, match="was changed after it was applied"):
        await migrate(empty_url)


async def test_a_postgres_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    url = f"postgresql://postgres@/postgres?host={tmp_path}"
    with pytest.raises(StoreUnavailable, match="postgres unavailable"):
        await migrate(url)
    postgres = Postgres(url, deadline_s=1, pool_max=1)
    await postgres.close()
    await postgres.start()
    with pytest.raises(StoreUnavailable) as raised:
        await ping(postgres)
    assert raised.value.transient
    assert not postgres.is_up
    await postgres.close()


async def test_a_database_that_does_not_exist_is_no_matter_of_waiting(postgres_url: str) -> None:
    postgres = Postgres(on_database(postgres_url, "none"), deadline_s=5, pool_max=1)
    await postgres.start()
    with pytest.raises(StoreUnavailable) as raised:
        await ping(postgres)
    assert not raised.value.transient
    await postgres.close()


async def test_a_hang_is_an_error_within_the_deadline_and_heals(folder: Path) -> None:
    server = PostgresServer(folder)
    server.start()
    postgres = Postgres(server.url, deadline_s=0.1, pool_max=2)
    await postgres.start()
    try:
        while not postgres.is_up:
            try:
                await ping(postgres)
            except StoreUnavailable:
                continue
        stopped = processes(server.pid)
        for pid in stopped:
            os.kill(pid, SIGSTOP)
        started_s = time.monotonic()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="no answer in time"):
                await ping(postgres)
        assert time.monotonic() - started_s < 1
        for pid in stopped:
            os.kill(pid, SIGCONT)
        while not postgres.is_up:
            try:
                await ping(postgres)
            except StoreUnavailable:
                continue
    finally:
        await postgres.close()
        server.stop()


async def test_values_in_a_drivers_message_are_not_passed_on(empty_url: str) -> None:
    postgres = Postgres(empty_url, deadline_s=5, pool_max=1)
    await postgres.start()
    with pytest.raises(StoreUnavailable) as raised:
        async with postgres.transaction() as connection:
            await connection.execute("SELECT $1::text::int", "hunter2")
    assert "hunter2" not in str(raised.value)
    await postgres.close()


async def test_keys_cannot_be_read_before_the_schema_is_there(empty_url: str) -> None:
    postgres = Postgres(empty_url, deadline_s=5, pool_max=1)
    await postgres.start()
    keys = PostgresDirectory(postgres)
    with pytest.raises(StoreUnavailable, match="UndefinedTableError"):
        await keys.probe()
    assert not postgres.reached.is_set()
    await migrate(empty_url)
    await keys.probe()
    assert postgres.reached.is_set()
    await postgres.close()
