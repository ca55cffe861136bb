"""The pool: bounded whatever happens, back in service at once, and clear about what was too slow."""

import asyncio
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from longrun.pooler_mixing import key_id, make_account
from support.servers.delay_proxy import delayed
from support.servers.postgres import Opened, on_database
from support.servers.postgres_variants import TcpPostgres

from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.failures import FAILURES
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Actor, AuditEvent
from authz.core.errors import StoreUnavailable

_BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def ping(postgres: Postgres) -> None:
    async with postgres.transaction() as connection:
        await connection.execute("SELECT 1")


async def until_up(postgres: Postgres) -> float:
    """Use the pool until that succeeds; returns the seconds it took."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    while True:
        with suppress(StoreUnavailable):
            await ping(postgres)
            return loop.time() - started_s
        await asyncio.sleep(0.01)


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


@pytest.mark.timeout(60)
async def test_a_locked_table_under_a_flood_takes_no_more_connections_than_the_pool_may(
    database_url: str, opened: Opened
) -> None:
    postgres = await opened(database_url, deadline_s=0.2, pool_max=3)
    directory = PostgresDirectory(postgres)
    await directory.probe()
    locker, watcher = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    most, errors = 0, set[str]()

    async def load(number: int) -> None:
        try:
            async with directory.hold(lambda: [number.to_bytes(32)]):
                pass
        except StoreUnavailable as error:
            errors.add(str(error))

    async with locker.transaction():
        await locker.execute("LOCK TABLE api_keys")
        for turn in range(15):
            loads = [asyncio.create_task(load(turn * 100 + number)) for number in range(100)]
            await asyncio.sleep(0.2)
            most = max(most, await watcher.fetchval(_BACKENDS) - 1)
            await asyncio.gather(*loads)
    assert most <= 3
    assert "postgres unavailable: a lock was not free within AUTHZ_POSTGRES_DEADLINE_S" in errors
    await asyncio.wait_for(load(0), 2)
    await directory.probe()
    assert postgres.connections()["waiting"] == 0
    assert await watcher.fetchval(_BACKENDS) - 1 <= 3
    await asyncio.gather(locker.close(), watcher.close())


async def test_a_statement_that_takes_too_long_is_ended_by_the_server_and_costs_no_connection(
    empty_url: str, opened: Opened
) -> None:
    postgres = await opened(empty_url, deadline_s=0.2, pool_max=1)

    async def pid() -> int:
        async with postgres.transaction() as connection:
            return int(await connection.fetchval("SELECT pg_backend_pid()"))

    before = await pid()
    with pytest.raises(StoreUnavailable, match="took longer than AUTHZ_POSTGRES_DEADLINE_S and was cancelled"):
        async with postgres.transaction() as connection:
            await connection.execute("SELECT pg_sleep(5)")
    assert await pid() == before


async def test_a_caller_that_gives_up_has_its_statement_cancelled_and_leaves_the_connection(
    empty_url: str, opened: Opened
) -> None:
    postgres = await opened(empty_url, deadline_s=5, pool_max=1)

    async def sleep() -> None:
        async with postgres.transaction() as connection:
            await connection.execute("SELECT pg_sleep(5)")

    await ping(postgres)
    sleeping = asyncio.create_task(sleep())
    while not postgres.connections()["used"]:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    sleeping.cancel()
    assert await until_up(postgres) < 1
    assert await asyncio.wait([sleeping])
    assert sum(postgres.connections().values()) == 1


async def test_connections_that_a_nat_forgot_cost_no_request(
    tcp_server: TcpPostgres, empty_url: str, opened: Opened
) -> None:
    async with delayed(("127.0.0.1", tcp_server.port)) as proxy:
        url = on_database(f"postgresql://postgres@127.0.0.1:{proxy.port}/", name_of(empty_url))
        postgres = await opened(url, deadline_s=2, pool_max=6)
        await asyncio.gather(*(ping(postgres) for _ in range(4)))
        proxy.forget()
        await asyncio.gather(*(asyncio.wait_for(ping(postgres), 1.5) for _ in range(4)))


async def test_connections_that_the_server_ended_cost_no_request(empty_url: str, opened: Opened) -> None:
    postgres = await opened(empty_url, pool_max=3)
    await asyncio.gather(*(ping(postgres) for _ in range(3)))
    admin = await asyncpg.connect(empty_url)
    for _ in range(3):
        await admin.execute(
            "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )
        await ping(postgres)
    await admin.close()


@pytest.mark.parametrize("round_trip_s", [0.02, 0.1])
async def test_a_slow_network_is_slow_and_not_an_outage(
    tcp_server: TcpPostgres, empty_url: str, opened: Opened, round_trip_s: float
) -> None:
    async with delayed(("127.0.0.1", tcp_server.port), round_trip_s) as proxy:
        url = on_database(f"postgresql://postgres@127.0.0.1:{proxy.port}/", name_of(empty_url))
        postgres = await opened(url, deadline_s=1, connect_s=2)
        assert await until_up(postgres) < 2
        for _ in range(5):
            await ping(postgres)
        assert proxy.accepted <= 2


async def test_the_log_tells_whether_connecting_or_querying_was_too_slow(
    tcp_server: TcpPostgres, empty_url: str, opened: Opened
) -> None:
    async with delayed(("127.0.0.1", tcp_server.port), 0.3) as proxy:
        url = on_database(f"postgresql://postgres@127.0.0.1:{proxy.port}/", name_of(empty_url))
        impatient = await opened(url, deadline_s=5, connect_s=0.5)
        with pytest.raises(StoreUnavailable, match="connecting took longer than AUTHZ_POSTGRES_CONNECT_S"):
            await ping(impatient)
        # From now on a check does not wait for the next attempt.
        with pytest.raises(StoreUnavailable, match="AUTHZ_POSTGRES_CONNECT_S"):
            await asyncio.wait_for(ping(impatient), 0.1)
        patient = await opened(url, deadline_s=0.2, connect_s=5)
        with pytest.raises(StoreUnavailable, match="connecting takes longer than AUTHZ_POSTGRES_DEADLINE_S"):
            await ping(patient)
        await asyncio.sleep(2.5)
        with pytest.raises(StoreUnavailable, match="a transaction took longer than AUTHZ_POSTGRES_DEADLINE_S"):
            await ping(patient)


async def test_a_password_from_a_file_is_read_again_for_each_connection(
    empty_url: str, opened: Opened, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    file.write_text(empty_url.replace("postgres@", "nobody_here@"))
    postgres = await opened(file.read_text)
    with pytest.raises(StoreUnavailable) as raised:
        await ping(postgres)
    assert not raised.value.transient
    file.write_text(empty_url)
    assert await until_up(postgres) < 2


async def test_old_and_spare_connections_are_replaced(empty_url: str, opened: Opened) -> None:
    postgres = await opened(empty_url, pool_max=2, life_s=0.2)

    async def pid() -> int:
        async with postgres.transaction() as connection:
            return int(await connection.fetchval("SELECT pg_backend_pid()"))

    before = await pid()
    await asyncio.sleep(0.3)
    postgres.keep_warm()
    assert await pid() != before


async def test_a_pending_change_of_a_locked_row_takes_no_further_connections(database_url: str, opened: Opened) -> None:
    postgres = await opened(database_url, deadline_s=0.1, pool_max=2)
    keys = PostgresKeys(await opened(database_url))
    await make_account(keys, 1)
    await keys.change_key(key_id(1, 0), AuditEvent.KEY_DISABLED, Actor("operator:ada", "local"))
    locker, watcher = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    pids = "SELECT array_agg(pid) FROM pg_stat_activity WHERE datname = current_database()"
    others = set(await watcher.fetchval(pids))

    async def put(*_record: object) -> bool:
        return True

    async with locker.transaction():
        await locker.execute("SELECT FROM api_keys FOR UPDATE")
        for _ in range(20):
            with pytest.raises(StoreUnavailable, match="AUTHZ_POSTGRES_DEADLINE_S"):
                await PostgresKeys(postgres).settle(key_id(1, 0), put)
            assert len(set(await watcher.fetchval(pids)) - others) <= 2
    await PostgresKeys(postgres).settle(key_id(1, 0), put)
    assert await keys.pending() == []
    await asyncio.gather(locker.close(), watcher.close())


async def test_the_server_ends_a_statement_whose_client_has_gone(empty_url: str, opened: Opened) -> None:
    postgres = await opened(empty_url, deadline_s=30, pool_max=1)
    watcher = await asyncpg.connect(empty_url)
    pids: list[int] = []

    async def leave() -> None:
        async with postgres.transaction() as connection:
            pids.append(await connection.fetchval("SELECT pg_backend_pid()"))
            sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(20)"))
            await asyncio.sleep(0.1)
            connection.terminate()
            await asyncio.wait({sleeping})
            assert isinstance(sleeping.exception(), FAILURES)

    with pytest.raises(StoreUnavailable):
        await leave()
    async with asyncio.timeout(5):
        while await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pids[0]):
            await asyncio.sleep(0.05)
    await watcher.close()


async def test_a_connection_that_the_server_ends_between_two_statements_is_a_failure_and_gone(
    empty_url: str, opened: Opened
) -> None:
    postgres = await opened(empty_url, pool_max=1)
    admin = await asyncpg.connect(empty_url)

    async def interrupted() -> None:
        async with postgres.transaction() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
            await asyncio.sleep(0.05)
            await connection.execute("SELECT 1")

    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await interrupted()
        assert await until_up(postgres) < 2
    await admin.close()
