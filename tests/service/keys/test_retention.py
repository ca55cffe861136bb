"""Keys that ended long ago are deleted in bounded batches, lists come in pages, and neither is slow with many keys."""

import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from support.fakes.projection import MemoryProjection

from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Actor, AuditEvent
from authz.core.errors import Refused
from authz.service.keys.admin import KeyAdmin, KeyRequest
from authz.service.keys.reconciling import DELETED_ROWS, Reconciler, Retention

ME = Actor("operator:ada", "203.0.113.9")
KEEP = timedelta(days=90)


async def account_of(admin: KeyAdmin) -> str:
    return (await admin.create_account("Ada", None, ME)).id


async def insert(postgres: Postgres, account_id: str, count: int, revoked: str, expires: str = "NULL") -> None:
    async with postgres.transaction() as connection:
        await connection.execute(
            "INSERT INTO api_keys (id, account_id, digest, name, hint, scopes, created_at, revoked_at, expires_at) "  # noqa: S608 -- ours
            f"SELECT 'key_' || $3 || n, $1, sha256(($3 || n)::bytea), 'dead', 'ttk_…dead', '{{servers:read}}', "
            f"now() - interval '1 y' + n * interval '1 s', {revoked}, {expires} FROM generate_series(1, $2::int) n",
            account_id,
            count,
            os.urandom(6).hex(),
        )


async def count(postgres: Postgres) -> int:
    async with postgres.transaction() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM api_keys"))


def now() -> datetime:
    return datetime.now(UTC)


async def test_keys_are_deleted_a_while_after_their_end_and_their_audit_lines_stay(
    admin: KeyAdmin, ledger: PostgresKeys, postgres: Postgres
) -> None:
    account_id = await account_of(admin)
    kept = await admin.create_key(KeyRequest(account_id, "live", frozenset({"servers:read"})), ME)
    replaced = await admin.rotate(kept.key.id, 0, ME)
    await insert(postgres, account_id, 250, "now() - interval '91 d'")
    await insert(postgres, account_id, 120, "NULL", "now() - interval '91 d'")
    await insert(postgres, account_id, 7, "now() - interval '89 d'", "now() - interval '10 d'")
    async with postgres.transaction() as connection:
        await connection.execute("UPDATE api_keys SET revoked_at = now() - interval '100 d' WHERE id = $1", kept.key.id)
    assert await Retention(ledger, KEEP, now).delete_when_due() == 250 + 120 + 1
    assert await count(postgres) == 7 + 1
    # The key that replaced a deleted one stays, and so do the lines about both.
    new = await admin.key(replaced.made.key.id)
    assert (new.replaces, new.revoked_at) == (None, None)
    async with postgres.transaction() as connection:
        lines = await connection.fetch("SELECT event FROM audit_log WHERE key_id = $1", kept.key.id)
    assert [line["event"] for line in lines] == ["key_created", "key_rotated", "key_revoked"]
    with pytest.raises(Refused, match="there is no key"):
        await admin.change_key(kept.key.id, AuditEvent.KEY_REVOKED, ME)


async def test_a_batch_is_bounded_and_a_key_that_is_pending_is_not_deleted(
    admin: KeyAdmin, ledger: PostgresKeys, projection: MemoryProjection, postgres: Postgres
) -> None:
    account_id = await account_of(admin)
    await insert(postgres, account_id, DELETED_ROWS + 5, "now() - interval '91 d'")
    async with postgres.transaction() as connection:
        await connection.execute("INSERT INTO key_outbox SELECT id, revision FROM api_keys LIMIT 1")
    assert await ledger.delete_ended(now() - KEEP, DELETED_ROWS) == DELETED_ROWS
    assert await ledger.delete_ended(now() - KEEP, DELETED_ROWS) == 4
    assert await Reconciler(ledger, projection).reconcile() == 1
    assert await ledger.delete_ended(now() - KEEP, DELETED_ROWS) == 1


async def test_deletion_runs_seldom_and_can_be_switched_off(
    admin: KeyAdmin, ledger: PostgresKeys, postgres: Postgres
) -> None:
    account_id = await account_of(admin)
    await insert(postgres, account_id, 1, "now() - interval '91 d'")
    assert await Retention(ledger, timedelta(0), now).delete_when_due() == 0
    retention = Retention(ledger, KEEP, now)
    assert await retention.delete_when_due() == 1
    await insert(postgres, account_id, 1, "now() - interval '91 d'")
    assert await retention.delete_when_due() == 0


async def test_lists_come_in_pages_that_miss_and_repeat_nothing(admin: KeyAdmin, postgres: Postgres) -> None:
    account_id = await account_of(admin)
    await insert(postgres, account_id, 25, "now()")
    live = [await admin.create_key(KeyRequest(account_id, "k", frozenset({"servers:read"})), ME) for _ in range(3)]
    pages, after = [], ""
    while page := await admin.keys(account_id, after, 10):
        pages.append(page)
        after = page[-1].id
    assert [len(page) for page in pages] == [10, 10, 8]
    oldest = [key.id for page in pages for key in page]
    assert len(set(oldest)) == 28
    latest, before = [], ""
    while page := await admin.latest_keys(account_id, before, 9):
        latest += [key.id for key in page]
        before = page[-1].id
    assert latest == oldest[::-1]
    assert [key.id for key in await admin.live_keys(account_id)] == [made.key.id for made in live[::-1]]
    ended = await admin.latest_keys(account_id, "", 100, ended_only=True)
    assert [key.id for key in ended] == oldest[:25][::-1]
    others = [await account_of(admin) for _ in range(4)]
    first = await admin.accounts("", 2)
    rest = await admin.accounts(first[-1].id, 10)
    assert [account.id for account in first + rest] == [account_id, *others]
    assert await admin.accounts("acct_none", 10) == []


@pytest.mark.timed
async def test_pages_of_ten_thousand_dead_keys_are_fast(admin: KeyAdmin, postgres: Postgres) -> None:
    account_id = await account_of(admin)
    await insert(postgres, account_id, 10_000, "now()")
    made = await admin.create_key(KeyRequest(account_id, "k", frozenset({"servers:read"})), ME)
    async with postgres.transaction() as connection:
        await connection.execute("ANALYZE api_keys")
    took_s = []
    for _ in range(5):
        started_s = time.monotonic()
        assert [key.id for key in await admin.live_keys(account_id)] == [made.key.id]
        assert len(await admin.latest_keys(account_id, "", 50, ended_only=True)) == 50
        took_s.append(time.monotonic() - started_s)
    assert min(took_s) < 0.05
