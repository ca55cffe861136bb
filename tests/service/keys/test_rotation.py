"""Rotation over the real Postgres: one successor, an overlap that ends by itself, and no way around the rules."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from support.fakes.projection import MemoryProjection

from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Actor, AuditEvent, NewApiKey, Rotation
from authz.core.check import KeyRecord, KeyState
from authz.core.errors import KeyLimitReached, Refused
from authz.core.keys import digest
from authz.core.limits import Limit
from authz.service.keys.admin import KeyAdmin, KeyRequest

ME = Actor("operator:ada", "203.0.113.9")
SCOPES = frozenset({"servers:read", "billing:read"})
HOUR_S = 3600
HOUR = timedelta(seconds=HOUR_S)
SOON = timedelta(seconds=5)


async def created(admin: KeyAdmin, account_id: str = "", **fields: object) -> NewApiKey:
    account_id = account_id or (await admin.create_account("Ada", None, ME)).id
    return await admin.create_key(KeyRequest(account_id, "key", SCOPES, **fields), ME)  # type: ignore[arg-type]


def projected(projection: MemoryProjection, made: NewApiKey) -> KeyRecord:
    return projection.records[digest(made.secret.encode())]


async def test_the_new_key_is_as_the_old_one_was(admin: KeyAdmin, projection: MemoryProjection) -> None:
    made = await created(admin, limit=Limit(7, 0.5))
    rotation = await admin.rotate(made.key.id, HOUR_S, ME)
    new, old = rotation.made.key, rotation.old
    assert (new.name, new.scopes, new.limit, new.account_id) == ("key", SCOPES, Limit(7, 0.5), made.key.account_id)
    assert (new.replaces, new.expires_at, old.id) == (made.key.id, None, made.key.id)
    assert rotation.made.secret != made.secret
    assert new.hint.endswith(rotation.made.secret[-4:])
    assert rotation.made.secret not in repr(rotation)
    assert await admin.keys(made.key.account_id) == [old, new]
    assert projected(projection, rotation.made).state is KeyState.ACTIVE


async def test_the_old_key_works_until_the_overlap_ends(admin: KeyAdmin, projection: MemoryProjection) -> None:
    made = await created(admin)
    old = (await admin.rotate(made.key.id, HOUR_S, ME)).old
    assert old.expires_at is not None
    assert abs(old.expires_at - (datetime.now(UTC) + HOUR)) < SOON
    held = projected(projection, made)
    assert (held.state, held.expires_at_ms) == (KeyState.ACTIVE, int(old.expires_at.timestamp() * 1000))
    assert held.revision > made.key.revision


async def test_a_key_that_expires_is_replaced_by_one_that_lives_as_long(admin: KeyAdmin, postgres: Postgres) -> None:
    made = await created(admin, expires_at=datetime.now(UTC) + 90 * HOUR)
    async with postgres.transaction() as connection:
        await connection.execute(
            "UPDATE api_keys SET created_at = created_at - interval '60 h', expires_at = expires_at - interval '60 h'"
        )
    new = (await admin.rotate(made.key.id, HOUR_S, ME)).made.key
    assert new.expires_at is not None
    assert abs(new.expires_at - (datetime.now(UTC) + 90 * HOUR)) < SOON


async def test_an_overlap_lengthens_no_life(admin: KeyAdmin) -> None:
    made = await created(admin, expires_at=datetime.now(UTC) + HOUR)
    assert (await admin.rotate(made.key.id, 2 * HOUR_S, ME)).old.expires_at == made.key.expires_at


async def test_without_an_overlap_the_old_key_is_revoked_when_the_rotation_returns(
    admin: KeyAdmin, projection: MemoryProjection
) -> None:
    made = await created(admin)
    rotation = await admin.rotate(made.key.id, 0, ME)
    assert rotation.old.revoked_at is not None
    assert projected(projection, made).state is KeyState.REVOKED
    assert projected(projection, rotation.made).state is KeyState.ACTIVE
    assert (rotation.pending, await admin.reconcile()) == ("", 0)


async def test_a_full_account_rotates_without_an_overlap_and_not_with_one(admin: KeyAdmin) -> None:
    account_id = (await admin.create_account("Ada", None, ME)).id
    made = [await created(admin, account_id) for _ in range(25)]
    with pytest.raises(KeyLimitReached, match=r"^api key limit reached \(max 25 per account\)$"):
        await admin.rotate(made[0].key.id, HOUR_S, ME)
    assert await admin.key(made[0].key.id) == made[0].key
    await admin.rotate(made[0].key.id, 0, ME)
    with pytest.raises(KeyLimitReached):
        await created(admin, account_id)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (AuditEvent.KEY_REVOKED, "is revoked, for good"),
        (AuditEvent.KEY_DISABLED, "is disabled; enable it first"),
        (AuditEvent.ACCOUNT_SUSPENDED, "is suspended"),
    ],
)
async def test_rotating_gives_no_new_life_to_a_key_that_was_stopped(
    admin: KeyAdmin, event: AuditEvent, words: str
) -> None:
    made = await created(admin)
    if event is AuditEvent.ACCOUNT_SUSPENDED:
        await admin.change_account(made.key.account_id, event, ME)
    else:
        await admin.change_key(made.key.id, event, ME)
    with pytest.raises(Refused, match=words):
        await admin.rotate(made.key.id, HOUR_S, ME)
    assert len(await admin.keys(made.key.account_id)) == 1


async def test_an_expired_key_cannot_be_rotated(admin: KeyAdmin, postgres: Postgres) -> None:
    made = await created(admin, expires_at=datetime.now(UTC) + HOUR)
    async with postgres.transaction() as connection:
        await connection.execute("UPDATE api_keys SET expires_at = now()")
    with pytest.raises(Refused, match="has expired; make a new one"):
        await admin.rotate(made.key.id, HOUR_S, ME)


@pytest.mark.parametrize("overlap_s", [-1, 30 * 24 * HOUR_S + 1, float("nan")])
async def test_an_overlap_is_at_most_a_month(admin: KeyAdmin, overlap_s: float) -> None:
    made = await created(admin)
    with pytest.raises(Refused, match="an overlap is at most 30 days"):
        await admin.rotate(made.key.id, overlap_s, ME)


async def test_what_is_not_there_cannot_be_rotated(admin: KeyAdmin) -> None:
    with pytest.raises(Refused, match="there is no key key_none"):
        await admin.rotate("key_none", HOUR_S, ME)


async def test_of_twenty_rotations_at_once_one_succeeds(admin: KeyAdmin) -> None:
    made = await created(admin)
    outcomes = await asyncio.gather(*(admin.rotate(made.key.id, HOUR_S, ME) for _ in range(20)), return_exceptions=True)
    (done,) = [outcome for outcome in outcomes if isinstance(outcome, Rotation)]
    refusals = {str(outcome) for outcome in outcomes if isinstance(outcome, Refused)}
    assert refusals == {f"the key {made.key.id} was replaced by {done.made.key.id} already"}
    assert len(await admin.keys(made.key.account_id)) == 2
    assert (await admin.rotate(done.made.key.id, HOUR_S, ME)).old.id == done.made.key.id


async def test_rotations_and_creations_share_the_last_free_place(admin: KeyAdmin) -> None:
    account_id = (await admin.create_account("Ada", None, ME)).id
    made = [await created(admin, account_id) for _ in range(24)]
    rotations = [admin.rotate(one.key.id, HOUR_S, ME) for one in made]
    outcomes = await asyncio.gather(
        *rotations, *(created(admin, account_id) for _ in range(24)), return_exceptions=True
    )
    assert sum(isinstance(outcome, KeyLimitReached) for outcome in outcomes) == 47
    assert len(await admin.keys(account_id)) == 25


async def test_the_new_secret_is_returned_also_where_redis_did_not_learn_of_the_rotation(
    admin: KeyAdmin, projection: MemoryProjection
) -> None:
    made = await created(admin)
    projection.is_down = True
    rotation = await admin.rotate(made.key.id, 0, ME)
    assert rotation.pending.startswith("durable, but not effective yet")
    assert rotation.made.secret
    projection.is_down = False
    assert await admin.reconcile() == 1
    assert projected(projection, made).state is KeyState.REVOKED


async def test_the_audit_log_tells_a_rotation_from_a_revocation(admin: KeyAdmin, postgres: Postgres) -> None:
    made = await created(admin)
    first = await admin.rotate(made.key.id, HOUR_S, ME)
    second = await admin.rotate(first.made.key.id, 0, ME)
    async with postgres.transaction() as connection:
        rows = await connection.fetch("SELECT event, key_id, source_address FROM audit_log ORDER BY id OFFSET 2")
    assert [(row["event"], row["key_id"]) for row in rows] == [
        ("key_rotated", made.key.id),
        ("key_created", first.made.key.id),
        ("key_rotated", first.made.key.id),
        ("key_revoked", first.made.key.id),
        ("key_created", second.made.key.id),
    ]
    assert {row["source_address"] for row in rows} == {"203.0.113.9"}
