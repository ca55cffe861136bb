"""Accounts and keys over the real Postgres: caps under concurrency, durability before effect, nothing secret kept."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from support.fakes.projection import MemoryProjection

from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Actor, AuditEvent, NewApiKey
from authz.core.check import KeyState, Lookup, Take
from authz.core.errors import KeyLimitReached, NotEffectiveYet, Refused, StoreUnavailable
from authz.core.keys import digest
from authz.core.limits import Limit
from authz.service.keys.admin import KeyAdmin, KeyRequest

ME = Actor("operator:ada", "203.0.113.9")
SCOPES = frozenset({"servers:read", "billing:read"})


async def created(admin: KeyAdmin, account_id: str = "", **fields: object) -> NewApiKey:
    account_id = account_id or (await admin.create_account("Ada", None, ME)).id
    return await admin.create_key(KeyRequest(account_id, "key", **{"scopes": SCOPES, **fields}), ME)  # type: ignore[arg-type]


def projected(projection: MemoryProjection, made: NewApiKey) -> KeyState:
    return projection.records[digest(made.secret.encode())].state


def outcome(projection: MemoryProjection, made: NewApiKey) -> str:
    take = projection.found(Lookup(digest(made.secret.encode()), 0, None), Limit(9, 1))
    assert isinstance(take, Take)
    return take.outcome


async def test_a_key_is_listed_as_it_was_made_and_its_secret_is_not_in_it(admin: KeyAdmin) -> None:
    expires_at = datetime(2100, 1, 1, tzinfo=UTC)
    made = await created(admin, limit=Limit(7, 0.5), expires_at=expires_at)
    assert await admin.keys(made.key.account_id) == [made.key]
    assert await admin.key(made.key.id) == made.key
    assert made.key.hint.endswith(made.secret[-4:])
    assert made.secret not in repr(made)
    (account,) = await admin.accounts()
    assert account.id == made.key.account_id


async def test_no_row_of_any_table_holds_the_secret(admin: KeyAdmin, postgres: Postgres) -> None:
    made = await created(admin)
    await admin.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME)
    async with postgres.transaction() as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = [row for table in tables for row in await connection.fetch(f"SELECT * FROM {table['tablename']}")]  # noqa: S608 -- a test's own tables
    assert len(rows) > 4
    assert made.secret not in str(rows)
    assert made.secret.encode() not in [value for row in rows for value in row.values()]


async def test_a_new_key_replaces_the_memory_that_there_was_none(admin: KeyAdmin, projection: MemoryProjection) -> None:
    made = await created(admin)
    assert projected(projection, made) is KeyState.ACTIVE
    projection.is_down = True
    assert (await created(admin, made.key.account_id)).key.revision == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scopes": frozenset()}, "a key needs at least one scope"),
        ({"scopes": frozenset({"servers:raed"})}, "there is no scope servers:raed"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "the expiry is in the past"),
        ({"limit": Limit(0, 1)}, "a limit's capacity and refill are more than 0 and at most 1000000"),
        ({"account_id": "acct_none"}, "there is no account acct_none"),
    ],
)
async def test_a_key_that_the_rules_do_not_permit_is_refused_in_words(
    admin: KeyAdmin, fields: dict[str, object], message: str
) -> None:
    account_id = str(fields.pop("account_id", ""))
    with pytest.raises(Refused) as raised:
        await created(admin, account_id, **fields)
    assert str(raised.value) == message


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "a\nb", "\x1b[31m"])
async def test_a_name_is_printable_and_short(admin: KeyAdmin, name: str) -> None:
    with pytest.raises(Refused, match="printable"):
        await admin.create_account(name, None, ME)


async def test_of_a_hundred_creations_at_twenty_four_keys_one_succeeds(admin: KeyAdmin) -> None:
    account_id = (await admin.create_account("Ada", None, ME)).id
    for _ in range(24):
        await created(admin, account_id)
    outcomes = await asyncio.gather(*(created(admin, account_id) for _ in range(100)), return_exceptions=True)
    refusals = [outcome for outcome in outcomes if isinstance(outcome, KeyLimitReached)]
    assert len(refusals) == 99
    assert {str(refusal) for refusal in refusals} == {"api key limit reached (max 25 per account)"}
    assert len(await admin.keys(account_id)) == 25


async def test_revoked_and_expired_keys_do_not_count(admin: KeyAdmin, postgres: Postgres) -> None:
    account_id = (await admin.create_account("Ada", None, ME)).id
    soon = datetime.now(UTC) + timedelta(seconds=60)
    made = [await created(admin, account_id, expires_at=soon) for _ in range(25)]
    await admin.change_key(made[0].key.id, AuditEvent.KEY_REVOKED, ME)
    await created(admin, account_id)
    with pytest.raises(Refused):
        await created(admin, account_id)
    async with postgres.transaction() as connection:
        await connection.execute("UPDATE api_keys SET expires_at = now() WHERE id = $1", made[1].key.id)
    await created(admin, account_id)


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (AuditEvent.KEY_REVOKED, KeyState.REVOKED),
        (AuditEvent.KEY_DISABLED, KeyState.DISABLED),
        (AuditEvent.KEY_LIMITED, KeyState.ACTIVE),
    ],
)
async def test_a_change_is_effective_when_it_returns(
    admin: KeyAdmin, projection: MemoryProjection, event: AuditEvent, state: KeyState
) -> None:
    made = await created(admin)
    for _ in range(2):  # the second time changes nothing, and is no error
        await admin.change_key(made.key.id, event, ME, Limit(9, 1))
        assert projected(projection, made) is state
    held = projection.records[digest(made.secret.encode())]
    assert held.revision == 3
    assert held.limit == (Limit(9, 1) if event is AuditEvent.KEY_LIMITED else None)
    assert await admin.reconcile() == 0


async def test_a_disabled_key_works_again_and_a_revoked_one_never(
    admin: KeyAdmin, projection: MemoryProjection, postgres: Postgres
) -> None:
    made = await created(admin)
    await admin.change_key(made.key.id, AuditEvent.KEY_DISABLED, ME)
    await admin.change_key(made.key.id, AuditEvent.KEY_ENABLED, ME)
    assert projected(projection, made) is KeyState.ACTIVE
    await admin.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME)
    with pytest.raises(Refused, match="is revoked, for good"):
        await admin.change_key(made.key.id, AuditEvent.KEY_ENABLED, ME)
    assert projected(projection, made) is KeyState.REVOKED
    with pytest.raises(StoreUnavailable):
        async with postgres.transaction() as connection:
            await connection.execute("UPDATE api_keys SET revoked_at = NULL")


async def test_suspending_an_account_stops_all_its_keys_and_no_other(
    admin: KeyAdmin, projection: MemoryProjection
) -> None:
    first = await created(admin)
    second = await created(admin, first.key.account_id)
    other = await created(admin)
    await admin.change_account(first.key.account_id, AuditEvent.ACCOUNT_SUSPENDED, ME)
    assert [outcome(projection, made) for made in (first, second, other)] == ["s", "s", "g"]
    with pytest.raises(Refused, match="is suspended"):
        await created(admin, first.key.account_id)
    await admin.change_account(first.key.account_id, AuditEvent.ACCOUNT_REINSTATED, ME)
    assert outcome(projection, first) == "g"


async def test_what_is_not_there_cannot_be_changed(admin: KeyAdmin) -> None:
    with pytest.raises(Refused, match="there is no key key_none"):
        await admin.change_key("key_none", AuditEvent.KEY_REVOKED, ME)
    with pytest.raises(Refused, match="there is no key key_none"):
        await admin.key("key_none")
    with pytest.raises(Refused, match="there is no account acct_none"):
        await admin.change_account("acct_none", AuditEvent.ACCOUNT_SUSPENDED, ME)


async def test_a_revocation_that_redis_did_not_learn_of_is_not_reported_as_done_and_is_retried(
    admin: KeyAdmin, projection: MemoryProjection
) -> None:
    made = await created(admin)
    projection.is_down = True
    with pytest.raises(NotEffectiveYet, match="durable, but not effective yet"):
        await admin.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME)
    assert (await admin.key(made.key.id)).revoked_at is not None
    with pytest.raises(NotEffectiveYet):
        await admin.reconcile()
    projection.is_down = False
    assert await admin.reconcile() == 1
    assert projected(projection, made) is KeyState.REVOKED
    assert await admin.reconcile() == 0


async def test_every_record_can_be_written_anew(admin: KeyAdmin, projection: MemoryProjection) -> None:
    made = [await created(admin) for _ in range(3)]
    projection.records.clear()
    projection.accounts.clear()
    assert await admin.reconcile(everything=True) == 3 + 3
    assert set(projection.accounts) == {one.key.account_id for one in made}
    assert {projected(projection, one) for one in made} == {KeyState.ACTIVE}


async def test_a_key_belongs_to_its_account_for_ever(admin: KeyAdmin, postgres: Postgres) -> None:
    made, other = await created(admin), await created(admin)
    with pytest.raises(StoreUnavailable):
        async with postgres.transaction() as connection:
            await connection.execute(
                "UPDATE api_keys SET account_id = $1 WHERE id = $2", other.key.account_id, made.key.id
            )


async def test_the_audit_log_has_every_event_and_takes_no_change(admin: KeyAdmin, postgres: Postgres) -> None:
    made = await created(admin)
    await admin.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME)
    async with postgres.transaction() as connection:
        rows = await connection.fetch("SELECT * FROM audit_log ORDER BY id")
    assert [row["event"] for row in rows] == ["account_created", "key_created", "key_revoked"]
    assert {(row["actor"], row["source_address"]) for row in rows} == {("operator:ada", "203.0.113.9")}
    for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
        with pytest.raises(StoreUnavailable) as raised:
            async with postgres.transaction() as connection:
                await connection.execute(statement)
        assert isinstance(raised.value.__cause__, asyncpg.RaiseError)


async def test_a_revocation_waits_for_a_load_under_way(
    directory: PostgresDirectory, admin: KeyAdmin, projection: MemoryProjection
) -> None:
    made = await created(admin)
    order: list[str] = []
    async with directory.hold(lambda: [digest(made.secret.encode())]) as records:
        (held,) = records.values()
        assert (held.key.state, held.account is None) == (KeyState.ACTIVE, False)
        revoking = asyncio.create_task(admin.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME))
        done, _ = await asyncio.wait({revoking}, timeout=0.2)
        assert not done
        order.append("loaded")
    await revoking
    assert projected(projection, made) is KeyState.REVOKED


async def test_a_digest_nobody_has_is_held_as_unknown(directory: PostgresDirectory) -> None:
    async with directory.hold(lambda: [bytes(32)]) as records:
        (held,) = records.values()
        assert (held.key.state, held.account) == (KeyState.UNKNOWN, None)
