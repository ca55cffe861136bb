"""Behind PgBouncer: nothing is refused or outlives its transaction, and no statement reaches another client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import asyncpg
import pytest
from longrun.pooler_mixing import key_digest, key_id, make_account, mixed
from support.servers.postgres import Opened, on_database
from support.servers.postgres_variants import TcpPostgres, pgbouncer

from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.migrations import migrate, shipped_migrations
from authz.core.accounts import Actor, AuditEvent
from authz.core.check import KeyState
from authz.core.errors import StoreUnavailable

# Limits that end each transaction of a busy machine, unless the transaction has its own.
DEFAULTS = [
    *("statement_timeout = '50ms'", "lock_timeout = '50ms'", "transaction_timeout = '50ms'"),
    *("idle_in_transaction_session_timeout = '50ms'", "default_transaction_isolation = 'serializable'"),
    *("synchronous_commit = off", "IntervalStyle = 'sql_standard'", "standard_conforming_strings = off"),
]
ME = Actor("operator:ada", "local")


@pytest.fixture(params=["transaction", "session"])
async def pooled_url(
    request: pytest.FixtureRequest, tcp_server: TcpPostgres, empty_url: str, folder: Path
) -> AsyncIterator[str]:
    where = f"host=127.0.0.1 port={tcp_server.port}"
    with pgbouncer(folder, where, "default_pool_size = 6", mode=request.param) as url:
        yield on_database(url, empty_url.rpartition("/")[2])


async def test_everything_runs_through_it(pooled_url: str, opened: Opened) -> None:
    assert "0001_accounts_and_keys.sql" in await migrate(pooled_url)
    assert await migrate(pooled_url) == []
    postgres = await opened(pooled_url)
    keys, directory = PostgresKeys(postgres), PostgresDirectory(postgres)
    await directory.probe()
    await make_account(keys, 1)
    await keys.change_key(key_id(1, 0), AuditEvent.KEY_REVOKED, ME)
    async with directory.hold(lambda: [key_digest(1, 0), key_digest(1, 1), bytes(32)]) as records:
        assert [held.key.state for held in records.values()] == [KeyState.REVOKED, KeyState.ACTIVE, KeyState.UNKNOWN]


async def test_limits_are_in_force_in_a_transaction_and_gone_after_it(pooled_url: str, opened: Opened) -> None:
    postgres = await opened(pooled_url, deadline_s=0.7, pool_max=1)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_isolation")
    async with postgres.transaction() as connection:
        inside = [await connection.fetchval("SELECT current_setting($1)", name) for name in names]
    assert inside == ["700ms", "630ms", "1700ms", "read committed"]
    other = await asyncpg.connect(pooled_url, statement_cache_size=0)
    assert [await other.fetchval(f"SHOW {name}") for name in names[:3]] == ["0", "0", "0"]
    await other.close()


@pytest.mark.parametrize("what", ["ROLE postgres", "DATABASE {}"])
async def test_defaults_of_a_role_or_a_database_change_nothing(database_url: str, opened: Opened, what: str) -> None:
    what = what.format(database_url.rpartition("/")[2])
    admin = await asyncpg.connect(database_url)
    try:
        for default in DEFAULTS:
            await admin.execute(f"ALTER {what} SET {default}")
        assert await migrate(database_url) == []
        postgres = await opened(database_url)
        keys, directory = PostgresKeys(postgres), PostgresDirectory(postgres)
        await make_account(keys, 1)
        await keys.change_key(key_id(1, 0), AuditEvent.KEY_REVOKED, ME)
        async with directory.hold(lambda: [key_digest(1, 0)]) as records:
            await asyncio.sleep(0.1)
            assert records[key_digest(1, 0)].key.state is KeyState.REVOKED
        async with postgres.transaction() as connection:
            assert await connection.fetchval("SHOW synchronous_commit") == "on"
            assert await connection.fetchval("SHOW transaction_timeout") == "0"
    finally:
        await admin.execute(f"ALTER {what} RESET ALL")
        await admin.close()


async def test_a_stronger_commit_than_the_usual_stays(database_url: str, opened: Opened) -> None:
    postgres = await opened(f"{database_url}?options=-c%20synchronous_commit%3Dremote_apply")
    async with postgres.transaction() as connection:
        assert await connection.fetchval("SHOW synchronous_commit") == "remote_apply"


async def test_what_others_left_on_a_shared_connection_changes_nothing(
    tcp_server: TcpPostgres, database_url: str, opened: Opened, folder: Path
) -> None:
    with pgbouncer(folder, f"host=127.0.0.1 port={tcp_server.port}", "default_pool_size = 1") as url:
        pooled = on_database(url, database_url.rpartition("/")[2])
        other = await asyncpg.connect(pooled, statement_cache_size=0)
        await other.execute(
            "SET statement_timeout = '50ms'; SET synchronous_commit = off; LISTEN elsewhere;"
            "SELECT pg_advisory_lock(7); SET default_transaction_isolation = serializable;"
            "SET idle_in_transaction_session_timeout = '50ms'"
        )
        postgres = await opened(pooled, pool_max=1)
        keys = PostgresKeys(postgres)
        await make_account(keys, 1)
        async with postgres.transaction() as connection:
            assert await connection.fetchval("SHOW synchronous_commit") == "on"
            await asyncio.sleep(0.1)
        await other.execute("NOTIFY elsewhere, 'news'")
        await keys.change_key(key_id(1, 0), AuditEvent.KEY_REVOKED, ME)
        assert (await keys.key(key_id(1, 0))).revoked_at is not None
        await other.close()


async def test_a_server_lost_behind_a_pooler_is_an_outage_until_it_is_back(folder: Path, opened: Opened) -> None:
    server = TcpPostgres(folder)
    server.start()
    try:
        where = f"host=127.0.0.1 port={server.port}"
        with pgbouncer(folder, where, "default_pool_size = 2", "server_login_retry = 0.1") as url:
            postgres = await opened(url, deadline_s=1)
            async with postgres.transaction():
                pass
            server.kill()
            with pytest.raises(StoreUnavailable):
                async with postgres.transaction():
                    pass
            assert not postgres.is_up
            server.start()
            while not postgres.is_up:
                with suppress(StoreUnavailable):
                    async with postgres.transaction():
                        pass
    finally:
        server.stop()


async def test_a_pooler_without_room_for_a_client_is_named(
    tcp_server: TcpPostgres, database_url: str, opened: Opened, folder: Path
) -> None:
    with pgbouncer(folder, f"host=127.0.0.1 port={tcp_server.port}", "max_client_conn = 1") as url:
        pooled = on_database(url, database_url.rpartition("/")[2])
        other = await asyncpg.connect(pooled, statement_cache_size=0)
        postgres = await opened(pooled)
        with pytest.raises(StoreUnavailable, match="a pooler refuses it"):
            async with postgres.transaction():
                pass
        await other.close()


@pytest.mark.parametrize(("mode", "processes"), [("session", 1), ("transaction", 1), ("transaction", 3)])
async def test_migrations_need_one_connection_of_the_server(
    tcp_server: TcpPostgres, empty_url: str, folder: Path, mode: str, processes: int
) -> None:
    settings = ("default_pool_size = 1", "query_wait_timeout = 20")
    with pgbouncer(folder, f"host=127.0.0.1 port={tcp_server.port}", *settings, mode=mode) as url:
        pooled = on_database(url, empty_url.rpartition("/")[2])
        applied = await asyncio.gather(*(migrate(pooled) for _ in range(processes)))
    assert sorted(chain(*applied)) == [migration.name for migration in shipped_migrations()]


async def test_a_migration_leaves_no_lock_on_the_servers_connection(pooled_url: str, empty_url: str) -> None:
    await migrate(pooled_url)
    direct = await asyncpg.connect(empty_url)
    held = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database AND datname = current_database()"
    # Locks are those of the whole server, where other tests have databases.
    assert await direct.fetchval(f"{held} WHERE locktype = 'advisory'") == 0
    await direct.close()


@pytest.mark.timeout(120)
async def test_no_process_changes_what_only_another_was_asked_to_change(
    tcp_server: TcpPostgres, empty_url: str, folder: Path
) -> None:
    where = f"host=127.0.0.1 port={tcp_server.port}"
    with pgbouncer(folder, where, "default_pool_size = 3") as url:
        found = await mixed(empty_url, on_database(url, empty_url.rpartition("/")[2]), processes=4, seconds=4)
    assert found.faults == []
    assert found.changes > 20
    assert found.reads > 60
