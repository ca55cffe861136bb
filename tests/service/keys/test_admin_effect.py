"""That a change, once effective, stays so: whatever Redis loses, and whichever older record is on its way there."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from support.builders import policy
from support.fakes.projection import MemoryProjection

from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Actor, AuditEvent, NewApiKey
from authz.core.check import KeyRecord, KeyState
from authz.core.errors import NotEffectiveYet, Refused, StoreUnavailable
from authz.core.keys import digest
from authz.service.keys.admin import KeyAdmin, KeyRequest

ME = Actor("operator:ada")


class StallingProjection(MemoryProjection):
    """Delays the first write until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.first: bytes | None = None
        self.arrived = asyncio.Event()
        self.go = asyncio.Event()

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        if self.first is None:
            self.first = digest
            self.arrived.set()
            await self.go.wait()
        return await super().put(digest, record, epoch=epoch)


@pytest.fixture
def over(ledger: PostgresKeys) -> Callable[[MemoryProjection], KeyAdmin]:
    return lambda projection: KeyAdmin(ledger, projection, policy(), entropy=os.urandom, now=lambda: datetime.now(UTC))


async def created(admin: KeyAdmin, account_id: str = "") -> NewApiKey:
    account_id = account_id or (await admin.create_account("Ada", None, ME)).id
    return await admin.create_key(KeyRequest(account_id, "key", frozenset({"servers:read"})), ME)


def hashed(made: NewApiKey) -> bytes:
    return digest(made.secret.encode())


async def test_no_change_commits_while_an_older_record_is_on_its_way(
    admin: KeyAdmin, over: Callable[[MemoryProjection], KeyAdmin]
) -> None:
    made = await created(admin)
    await admin.change_key(made.key.id, AuditEvent.KEY_DISABLED, ME)
    projection = StallingProjection()
    slow = over(projection)
    enabling = asyncio.create_task(slow.change_key(made.key.id, AuditEvent.KEY_ENABLED, ME))
    await projection.arrived.wait()
    revoking = asyncio.create_task(slow.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME))
    done, _ = await asyncio.wait({revoking}, timeout=0.2)
    assert not done
    projection.go.set()
    await asyncio.gather(enabling, revoking)
    assert projection.records[hashed(made)].state is KeyState.REVOKED


async def test_writing_all_records_anew_undoes_no_revocation_that_redis_has_lost(
    admin: KeyAdmin, over: Callable[[MemoryProjection], KeyAdmin]
) -> None:
    made = {hashed(one): one for one in (await created(admin), await created(admin))}
    projection = StallingProjection()
    slow = over(projection)
    rewriting = asyncio.create_task(slow.reconcile(everything=True))
    await projection.arrived.wait()
    (other,) = made.keys() - {projection.first}
    await slow.change_key(made[other].key.id, AuditEvent.KEY_REVOKED, ME)
    projection.records.clear()
    projection.go.set()
    await rewriting
    assert projection.records[other].state is KeyState.REVOKED


async def test_a_revocation_is_not_done_while_redis_holds_a_newer_record_than_postgres(
    admin: KeyAdmin, projection: MemoryProjection, ledger: PostgresKeys
) -> None:
    made, other = await created(admin), await created(admin)
    # As after Postgres was put back to an older state.
    projection.records[hashed(made)] = KeyRecord(KeyState.ACTIVE, revision=99)
    with pytest.raises(NotEffectiveYet, match="older than what Redis holds"):
        await admin.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME)
    projection.is_down = True
    with pytest.raises(NotEffectiveYet):
        await admin.change_key(other.key.id, AuditEvent.KEY_REVOKED, ME)
    projection.is_down = False
    with pytest.raises(NotEffectiveYet):
        await admin.reconcile()
    assert projection.records[hashed(other)].state is KeyState.REVOKED
    assert await ledger.pending() == [made.key.id]


async def test_one_locked_row_keeps_no_other_key_from_being_settled(
    admin: KeyAdmin, projection: MemoryProjection, postgres: Postgres, database_url: str
) -> None:
    made = [await created(admin) for _ in range(2)]
    projection.records.clear()
    impatient = Postgres(database_url, deadline_s=0.2, pool_max=2)
    await impatient.start()
    keys = PostgresKeys(impatient)
    quick = KeyAdmin(keys, projection, policy(), entropy=os.urandom, now=lambda: datetime.now(UTC))
    async with postgres.transaction() as connection:
        await connection.execute("SELECT 1 FROM api_keys WHERE id = $1 FOR UPDATE", made[0].key.id)
        with pytest.raises(NotEffectiveYet, match="postgres"):
            await quick.reconcile(everything=True)
    assert list(projection.records) == [hashed(made[1])]
    await impatient.close()


@pytest.mark.parametrize("event", [AuditEvent.KEY_ENABLED, AuditEvent.KEY_DISABLED, AuditEvent.KEY_LIMITED])
async def test_nothing_but_another_revocation_can_be_done_to_a_revoked_key(admin: KeyAdmin, event: AuditEvent) -> None:
    made = await created(admin)
    await admin.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME)
    await admin.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME)
    with pytest.raises(Refused, match="is revoked, for good"):
        await admin.change_key(made.key.id, event, ME)


async def test_loads_and_suspensions_at_once_never_deadlock(admin: KeyAdmin, postgres: Postgres) -> None:
    made = await created(admin)

    async def load() -> None:
        for _ in range(30):
            async with PostgresDirectory(postgres).hold(lambda: [hashed(made)]):
                await asyncio.sleep(0)

    async def suspend() -> None:
        for event in (AuditEvent.ACCOUNT_SUSPENDED, AuditEvent.ACCOUNT_REINSTATED) * 10:
            await admin.change_account(made.key.account_id, event, ME)

    await asyncio.gather(*(load() for _ in range(4)), suspend())


async def test_a_frozen_process_that_holds_a_key_still_does_not_keep_it_from_being_revoked(
    admin: KeyAdmin, database_url: str
) -> None:
    made = await created(admin)
    frozen = Postgres(database_url, deadline_s=0.2, pool_max=1)
    await frozen.start()

    async def revoke_elsewhere() -> None:
        postgres = Postgres(database_url, deadline_s=10, pool_max=1)
        await postgres.start()
        await PostgresKeys(postgres).change_key(made.key.id, AuditEvent.KEY_REVOKED, ME)
        await postgres.close()

    async def hold_and_freeze() -> None:
        async with PostgresDirectory(frozen).hold(lambda: [hashed(made)]):
            # Runs in a thread while this thread, and with it this event loop, stands still.
            with ThreadPoolExecutor() as elsewhere:
                elsewhere.submit(asyncio.run, revoke_elsewhere()).result(timeout=15)

    with pytest.raises(StoreUnavailable):  # the frozen one finds its connection closed
        await hold_and_freeze()
    assert (await admin.key(made.key.id)).revoked_at is not None
    await frozen.close()
