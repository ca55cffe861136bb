"""A server that takes no writes is never believed: it is left, looked past in the URL, and no key is unknown by it."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from unittest.mock import AsyncMock

import asyncpg
import pytest
from longrun.pooler_mixing import key_digest, key_id, make_account
from support.servers.delay_proxy import delayed
from support.servers.postgres import Opened, on_database
from support.servers.postgres_variants import TcpPostgres, pgbouncer

from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.migrations import migrate
from authz.core.accounts import Actor, AuditEvent
from authz.core.check import KeyState
from authz.core.errors import StoreUnavailable
from authz.demo.servers import free_port

ME = Actor("operator:ada", "local")
UNKNOWN = bytes(32)


@pytest.fixture
def pair(folder: Path) -> Iterator[tuple[TcpPostgres, TcpPostgres]]:
    """A primary and its streaming standby."""
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    # What is committed has arrived at the standby: a failover that loses changes is another matter.
    primary = TcpPostgres(folder / "one", "synchronous_commit=remote_apply", "synchronous_standby_names=*")
    standby = TcpPostgres(folder / "two", "synchronous_standby_names=", standby_of=primary)
    primary.start()
    try:
        standby.start()
        yield primary, standby
    finally:
        standby.stop()
        primary.stop()


def reachable(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


async def state(directory: PostgresDirectory, digest: bytes) -> KeyState:
    async with directory.hold(lambda: [digest]) as records:
        return records[digest].key.state


async def until_writes_work(keys: PostgresKeys) -> float:
    """Change a key until that succeeds; returns the seconds it took."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    while True:
        with suppress(StoreUnavailable):
            await keys.change_key(key_id(1, 0), AuditEvent.KEY_DISABLED, ME)
            return loop.time() - started_s
        await asyncio.sleep(0.02)


@pytest.mark.timeout(90)
async def test_a_standby_behind_the_same_address_is_left_and_followed_once_it_is_promoted(
    pair: tuple[TcpPostgres, TcpPostgres], opened: Opened
) -> None:
    primary, standby = pair
    await migrate(primary.url)
    async with delayed(("127.0.0.1", primary.port)) as proxy:
        postgres = await opened(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres", deadline_s=1)
        keys, directory = PostgresKeys(postgres), PostgresDirectory(postgres)
        await make_account(keys, 1)
        assert await state(directory, key_digest(1, 1)) is KeyState.ACTIVE
        # The address leads to the standby from now on, and new connections find it.
        proxy.target = ("127.0.0.1", standby.port)
        primary.kill()
        for digest in (UNKNOWN, key_digest(1, 1)):
            for _ in range(20):
                with pytest.raises(StoreUnavailable):
                    await state(directory, digest)
                await asyncio.sleep(0.01)
        with pytest.raises(StoreUnavailable, match="not the primary"):
            await keys.keys("acc_1")
        assert not postgres.is_up
        standby.promote()
        assert await until_writes_work(keys) < 5
        assert await state(directory, key_digest(1, 1)) is KeyState.ACTIVE
        assert await state(directory, UNKNOWN) is KeyState.UNKNOWN


@pytest.mark.timeout(90)
async def test_of_several_servers_the_primary_is_found_wherever_it_stands(
    pair: tuple[TcpPostgres, TcpPostgres], opened: Opened
) -> None:
    primary, standby = pair
    await migrate(primary.url)
    nobody = free_port()
    hosts = ",".join(f"127.0.0.1:{port}" for port in (nobody, standby.port, primary.port))
    postgres = await opened(f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write", deadline_s=2)
    keys = PostgresKeys(postgres)
    await make_account(keys, 1)
    primary.kill()
    with pytest.raises(StoreUnavailable):
        await keys.keys("acc_1")
    standby.promote()
    assert await until_writes_work(keys) < 5


async def test_a_connection_that_finds_itself_on_a_read_only_server_is_dropped(
    database_url: str, opened: Opened
) -> None:
    postgres = await opened(database_url)
    keys, directory = PostgresKeys(postgres), PostgresDirectory(postgres)
    await make_account(keys, 1)
    name = database_url.rpartition("/")[2]
    admin = await asyncpg.connect(database_url)
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    for _ in range(5):
        with pytest.raises(StoreUnavailable, match="not the primary"):
            await state(directory, UNKNOWN)
        with pytest.raises(StoreUnavailable, match="not the primary"):
            await keys.keys("acc_1")
    await admin.execute(f"SET default_transaction_read_only = off; ALTER DATABASE {name} RESET ALL")
    assert await until_writes_work(keys) < 2
    await admin.close()


@pytest.mark.timeout(90)
async def test_of_several_addresses_of_one_name_the_primary_is_found(
    folder: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, addresses = free_port(), ["127.0.0.2", "127.0.0.3"]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", AsyncMock(return_value=found))
    with ExitStack() as down:
        for address, read_only in zip(addresses, ("on", "off"), strict=True):
            (folder / address).mkdir()
            options = (f"listen_addresses={address}", f"port={port}", f"default_transaction_read_only={read_only}")
            server = TcpPostgres(folder / address, *options)
            server.start(partial(reachable, (address, port)))
            down.callback(server.stop)
        postgres = await opened(f"postgresql://postgres@db.example:{port}/postgres")
        async with postgres.transaction() as connection:
            assert await connection.fetchval("SELECT host(inet_server_addr())") == addresses[1]


@pytest.mark.timeout(90)
async def test_a_pooler_that_leads_to_a_standby_is_not_believed(
    pair: tuple[TcpPostgres, TcpPostgres], opened: Opened, folder: Path
) -> None:
    primary, standby = pair
    await migrate(primary.url)
    with pgbouncer(folder, f"host=127.0.0.1 port={standby.port}") as url:
        postgres = await opened(on_database(url, "postgres"))
        with pytest.raises(StoreUnavailable, match="not the primary"):
            await state(PostgresDirectory(postgres), UNKNOWN)
