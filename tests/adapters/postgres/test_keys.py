"""The pool's deadlines and the migrations, with the real Postgres hung, gone and raced."""

import asyncio
import os
import time
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import asyncpg
import pytest
from support.servers.postgres import Opened, on_database, processes

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


@pytest.mark.parametrize(
    ("sqlstate", "is_up"),
    [
        *((state, False) for state in ("08006", "42501", "42883", "53100", "53200", "58030", "XX000", "XX001")),
        *((state, True) for state in ("22001", "23505", "40001", "40P01", "55P03", "P0001")),
    ],
)
async def test_what_the_server_cannot_do_is_an_outage_and_what_was_asked_is_not(
    empty_url: str, opened: Opened, sqlstate: str, *, is_up: bool
) -> None:
    postgres = await opened(empty_url)
    async with postgres.transaction():
        pass
    with pytest.raises(StoreUnavailable):
        async with postgres.transaction() as connection:
            await connection.run(f"DO $$ BEGIN RAISE SQLSTATE '{sqlstate}'; END $$")
    assert postgres.is_up is is_up


async def test_a_role_that_lost_a_privilege_is_an_outage_that_says_so(database_url: str, opened: Opened) -> None:
    admin = await asyncpg.connect(database_url)
    role = "reader_" + database_url.rpartition("/")[2]
    await admin.execute(f"CREATE ROLE {role} LOGIN; GRANT SELECT, UPDATE ON api_keys, accounts TO {role}")
    postgres = await opened(database_url.replace("postgres@", f"{role}@"))
    directory = PostgresDirectory(postgres)
    await directory.probe()
    await admin.execute(f"REVOKE SELECT ON api_keys FROM {role}")  # noqa: S608 -- names of the test
    with pytest.raises(StoreUnavailable, match="lacks a privilege: run authz migrate --app-role"):
        await directory.probe()
    assert not postgres.is_up
    await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await admin.close()
