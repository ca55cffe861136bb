"""The audit log tells of every change once, in whatever order the changes are committed."""

import asyncpg
import pytest
from support.servers.postgres import Opened

from authz.adapters.postgres.audit import AuditedChanges
from authz.core.accounts import DECISIVE, AuditEvent
from authz.core.check import KeyState
from authz.service.ports import Changed

_LINE = "INSERT INTO audit_log (actor, source_address, event, account_id, key_id) VALUES ('t', '', $1, 'a', $2)"


async def key_of(connection: asyncpg.Connection, name: str) -> None:
    await connection.execute(
        "INSERT INTO api_keys (id, account_id, digest, name, hint, scopes, created_at) "
        "VALUES ($1, 'a', sha256($1::text::bytea), '', '', ARRAY['s'], now())",
        name,
    )


async def revoke(connection: asyncpg.Connection, name: str) -> None:
    await connection.execute("UPDATE api_keys SET revoked_at = now() WHERE id = $1", name)
    await connection.execute(_LINE, AuditEvent.KEY_REVOKED, name)


def told(changes: list[Changed]) -> list[tuple[str, str, int]]:
    return [(key.key_id, key.state, key.revision) for changed in changes if changed.key for key in changed.key[1:]]


async def test_each_change_is_told_once_also_if_an_earlier_one_is_committed_later(
    database_url: str, opened: Opened
) -> None:
    first, second = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    await first.execute("INSERT INTO accounts (id, name, created_at) VALUES ('a', '', now())")
    for name in ("k1", "k2", "k3"):
        await key_of(first, name)
    await revoke(first, "k3")
    changes = AuditedChanges(await opened(database_url))
    assert await changes.changed() == []
    late = first.transaction()
    await late.start()
    await revoke(first, "k1")
    await revoke(second, "k2")
    # What was a moment before the first call may have been committed after it.
    assert told(await changes.changed()) == [("k3", KeyState.REVOKED, 2), ("k2", KeyState.REVOKED, 2)]
    assert await changes.changed() == []
    await late.commit()
    assert told(await changes.changed()) == [("k1", KeyState.REVOKED, 2)]
    assert await changes.changed() == []
    await first.execute("UPDATE accounts SET suspended_at = now() WHERE id = 'a'")
    await first.execute(_LINE, AuditEvent.ACCOUNT_SUSPENDED, None)
    await second.execute(_LINE, AuditEvent.LOGGED_IN, None)
    assert await changes.changed() == [Changed("a", is_suspended=True)]
    for connection in (first, second):
        await connection.close()


async def test_more_changes_than_one_call_reads_are_told_by_the_next(
    database_url: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authz.adapters.postgres.audit._OVERLAP", 5)
    monkeypatch.setattr("authz.adapters.postgres.audit._ROWS_MAX", 10)
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO accounts (id, name, created_at) VALUES ('a', '', now())")
    changes = AuditedChanges(await opened(database_url))
    await changes.changed()
    names = [f"k{number:02}" for number in range(23)]
    for name in names:
        await key_of(connection, name)
        await revoke(connection, name)
    await connection.close()
    calls = [told(await changes.changed()) for _ in range(5)]
    assert [key for call in calls for key, *_ in call] == names
    assert max(map(len, calls)) <= 10
    assert calls[-1] == []


def test_every_event_either_changes_a_decision_or_is_known_not_to() -> None:
    harmless = {"account_created", "key_created", "key_imported", "key_minted_by_login", "key_minted_by_device"}
    of_owners = ("device_", "logged_", "email_", "password_", "session_")
    assert {event for event in AuditEvent if event not in harmless and not event.startswith(of_owners)} == DECISIVE
