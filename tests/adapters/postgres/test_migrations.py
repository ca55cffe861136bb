"""Migrations beside readers, the privileges of the application's role, and the schema of the next release."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain

import asyncpg
import pytest
from longrun.pooler_mixing import key_digest, key_id, make_account
from support.servers.postgres import Opened

from authz.adapters.postgres import migrations
from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.grants import PRIVILEGES
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.migrations import Migration, migrate, shipped_migrations
from authz.adapters.postgres.owners import PostgresOwners
from authz.core.accounts import Account, Actor, AuditEvent, Replacement
from authz.core.check import KeyState
from authz.core.errors import StoreUnavailable
from authz.core.owners import Owner

ME = Actor("operator:ada", "local")
NEXT = Migration("9999_next.sql", "ALTER TABLE api_keys ADD COLUMN shape text")
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"


@pytest.fixture
def another_url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ship one more migration than the database has, which needs the table of keys for itself alone."""
    shipped = shipped_migrations()
    monkeypatch.setattr(migrations, "shipped_migrations", lambda: [*shipped, NEXT])
    return database_url


async def test_a_migration_waits_for_an_open_select_without_stopping_the_reads(
    another_url: str, opened: Opened
) -> None:
    directory = PostgresDirectory(await opened(another_url, deadline_s=0.5))
    reader = await asyncpg.connect(another_url)
    opening = reader.transaction()
    await opening.start()
    await reader.fetch("SELECT id FROM api_keys")
    lines: list[str] = []
    migrating = asyncio.create_task(migrate(another_url, lines.append))
    loop, slowest_s = asyncio.get_running_loop(), 0.0
    ends_at_s = loop.time() + 2
    while loop.time() < ends_at_s:
        started_s = loop.time()
        await directory.probe()
        slowest_s = max(slowest_s, loop.time() - started_s)
        await asyncio.sleep(0.005)
    assert not migrating.done()
    assert slowest_s < 0.4
    assert "9999_next.sql: a table is in use; trying again" in lines
    await opening.rollback()
    assert await migrating == ["9999_next.sql"]
    assert "9999_next.sql: applied in" in lines[-1]
    await reader.close()


async def test_a_migration_that_finds_no_moment_ends_with_a_clear_line(another_url: str) -> None:
    reader = await asyncpg.connect(another_url)
    opening = reader.transaction()
    await opening.start()
    await reader.fetch("SELECT id FROM api_keys")
    with pytest.raises(StoreUnavailable, match=r"9999_next\.sql: a table was in use for 0 s"):
        await migrate(another_url, patience_s=0)
    await opening.rollback()
    await reader.close()


async def test_processes_that_migrate_at_once_apply_each_migration_once(empty_url: str) -> None:
    lines: list[str] = []
    applied = await asyncio.gather(*(migrate(empty_url, lines.append) for _ in range(4)))
    assert sorted(chain(*applied)) == [migration.name for migration in shipped_migrations()]
    assert sum(line.endswith(": applying") for line in lines) == len(shipped_migrations())


async def test_a_process_that_migrates_for_long_is_named(another_url: str) -> None:
    other = await asyncpg.connect(another_url)
    opening = other.transaction()
    await opening.start()
    await other.execute("SELECT pg_advisory_xact_lock($1)", migrations._LOCK)  # noqa: SLF001 -- it is the same in every process
    with pytest.raises(StoreUnavailable, match="another process migrated for 0 s"):
        await migrate(another_url, patience_s=0)
    lines: list[str] = []
    migrating = asyncio.create_task(migrate(another_url, lines.append))
    while not lines:
        await asyncio.sleep(0.01)
    assert lines == ["another process migrates; trying again"]
    await opening.rollback()
    assert await migrating == ["9999_next.sql"]
    await other.close()


async def test_a_newer_schema_is_reported_in_a_clear_line(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO migrations (name, checksum) VALUES ('0999_later.sql', 'x')")
    lines: list[str] = []
    assert await migrate(database_url, lines.append) == []
    assert lines == ["the schema is newer than this release, which has no 0999_later.sql"]
    await connection.close()


async def test_every_table_has_its_privileges(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    assert {row["tablename"] for row in await connection.fetch(_TABLES)} == PRIVILEGES.keys()
    await connection.close()


@pytest.fixture
async def app_url(database_url: str) -> AsyncIterator[str]:
    """The URL of a role that was granted what the application needs, and no more."""
    admin = await asyncpg.connect(database_url)
    role = "App " + database_url.rpartition("/")[2]
    await admin.execute(f'CREATE ROLE "{role}" LOGIN')
    await migrate(database_url, app_role=role)
    yield database_url.replace("postgres@", role.replace(" ", "%20") + "@")
    await admin.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')
    await admin.close()


async def everything(postgres_url: str, opened: Opened) -> None:
    """Do all that a release does with its tables."""
    postgres = await opened(postgres_url)
    keys, owners, directory = PostgresKeys(postgres), PostgresOwners(postgres), PostgresDirectory(postgres)
    await directory.probe()
    await make_account(keys, 1)
    assert len(await keys.accounts()) == 1
    await keys.change_key(key_id(1, 0), AuditEvent.KEY_DISABLED, ME)
    await keys.change_key(key_id(1, 0), AuditEvent.KEY_ENABLED, ME, own_only=True)
    old = await keys.key(key_id(1, 1))
    new = replace(old, id="key_new", replaces=old.id)
    await keys.replace_key(old.id, lambda _old: Replacement(new, bytes(32), None), 100, ME)
    await keys.change_account("acc_1", AuditEvent.ACCOUNT_SUSPENDED, ME)
    await keys.change_account("acc_1", AuditEvent.ACCOUNT_REINSTATED, ME)

    async def put(*_record: object) -> bool:
        return True

    for pending in await keys.pending():
        await keys.settle(pending, put)
    assert await keys.pending() == []
    for pending in await keys.pending_accounts():
        await keys.settle_account(pending, put)
    assert await keys.pending_accounts() == []
    assert await keys.delete_ended(datetime.now(UTC) - timedelta(days=1), 100) == 0
    assert len(await keys.keys("acc_1")) == 13
    async with directory.hold(lambda: [key_digest(1, 0), key_digest(1, 1)]) as records:
        assert [held.key.state for held in records.values()] == [KeyState.ACTIVE, KeyState.REVOKED]
    now = datetime.now(UTC)
    owner = Owner("acc_2", "ada@example.com", "hash")
    await owners.add_owner(Account("acc_2", "Ada", now), owner, ME)
    await owners.await_verification("acc_2", bytes(32), now.replace(year=now.year + 1))
    assert await owners.verify_email(bytes(32), now, "local") is not None
    assert await owners.change_password(owner, "other", ME) is not None
    assert await owners.contact("acc_2") is not None
    assert len(await owners.audit_trail("acc_2", 1_000_000, 10)) == 3


async def test_the_applications_role_can_do_everything_that_the_application_does(app_url: str, opened: Opened) -> None:
    await everything(app_url, opened)


async def test_the_applications_role_cannot_alter_the_audit_log(app_url: str, opened: Opened) -> None:
    await everything(app_url, opened)
    connection = await asyncpg.connect(app_url)
    for statement in (
        "UPDATE audit_log SET actor = 'x'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "DROP TABLE audit_log",
        "ALTER TABLE audit_log DISABLE TRIGGER append_only",
        "DROP TRIGGER append_only ON audit_log",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "UPDATE migrations SET checksum = 'x'",
        "DELETE FROM api_keys",
        "SET session_replication_role = replica",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


@pytest.mark.parametrize(
    ("role", "message"),
    [("none", "there is no role none"), ("postgres", "is a superuser"), ("owner of {}", "owns [a-z_]+ and may do")],
)
async def test_a_role_that_could_alter_it_all_the_same_is_refused(database_url: str, role: str, message: str) -> None:
    admin = await asyncpg.connect(database_url)
    role = role.format(database_url.rpartition("/")[2])
    if "owner" in role:
        await admin.execute(f'CREATE ROLE "{role}"; ALTER TABLE audit_log OWNER TO "{role}"')
    with pytest.raises(StoreUnavailable, match=message) as raised:
        await migrate(database_url, app_role=role)
    assert not raised.value.transient
    if "owner" in role:
        await admin.execute(f'DROP OWNED BY "{role}" CASCADE; DROP ROLE "{role}"')
    await admin.close()


async def test_this_release_works_with_the_schema_of_the_next(database_url: str, opened: Opened) -> None:
    admin = await asyncpg.connect(database_url)
    for row in await admin.fetch(_TABLES):
        await admin.execute(f"ALTER TABLE {row['tablename']} ADD COLUMN next_release text NOT NULL DEFAULT 'x'")
    await admin.execute("CREATE TABLE next_release (id text PRIMARY KEY, created_at timestamptz)")
    await admin.execute("INSERT INTO migrations (name, checksum) VALUES ('9999_next.sql', 'x')")
    await admin.close()
    assert await migrate(database_url) == []
    await everything(database_url, opened)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_no_default_isolation_lets_an_account_have_more_keys_than_it_may(
    database_url: str, opened: Opened, isolation: str
) -> None:
    admin = await asyncpg.connect(database_url)
    name = database_url.rpartition("/")[2]
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    await admin.close()
    keys = PostgresKeys(await opened(database_url, pool_max=10))
    await make_account(keys, 1)
    old = await keys.key(key_id(1, 0))

    async def add(number: int) -> None:
        await keys.add_key(replace(old, id=f"key_{number}"), number.to_bytes(32), 25, ME)

    outcomes = await asyncio.gather(*(add(number) for number in range(40)), return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 25 - 12
    assert len(await keys.keys("acc_1")) == 25
