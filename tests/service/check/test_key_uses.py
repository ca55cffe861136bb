"""Last use over the real Postgres: known soon, never going back, kept through an outage, and bounded."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.key_uses import PostgresUses
from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Actor, AuditEvent, NewApiKey
from authz.core.errors import StoreUnavailable
from authz.core.keys import digest
from authz.service.check import key_uses
from authz.service.check.key_uses import KeyUses
from authz.service.keys.admin import KeyAdmin, KeyRequest

ME = Actor("operator:ada")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class MemoryUses:
    """Keeps what it is given, a batch at a time; `is_down` makes it fail."""

    def __init__(self) -> None:
        self.batches: list[dict[str, datetime]] = []
        self.is_down = False

    async def note_uses(self, uses: Mapping[str, datetime]) -> None:
        if self.is_down:
            raise StoreUnavailable("postgres", "gone")
        self.batches.append(dict(uses))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def uses(postgres: Postgres, clock: Clock) -> KeyUses:
    return KeyUses(PostgresUses(postgres), clock)


@pytest.fixture
async def made(admin: KeyAdmin) -> NewApiKey:
    account = await admin.create_account("Ada", None, ME)
    return await admin.create_key(KeyRequest(account.id, "key", frozenset({"servers:read"})), ME)


async def test_a_key_tells_when_it_was_last_used(admin: KeyAdmin, uses: KeyUses, clock: Clock, made: NewApiKey) -> None:
    assert (await admin.key(made.key.id)).last_used_at is None
    for _ in range(3):
        clock.now += SECOND
        uses.note(made.key.id)
    await uses.write()
    (listed,) = await admin.keys(made.key.account_id)
    assert listed.last_used_at == NOON + 3 * SECOND
    assert listed == await admin.key(made.key.id)


async def test_a_late_note_of_another_sidecar_changes_nothing(
    admin: KeyAdmin, postgres: Postgres, made: NewApiKey
) -> None:
    ledger = PostgresUses(postgres)
    for used_at in (NOON, NOON + SECOND, NOON - SECOND):
        await ledger.note_uses({made.key.id: used_at})
    assert (await admin.key(made.key.id)).last_used_at == NOON + SECOND


async def test_a_use_changes_no_revision_and_waits_for_no_load(
    admin: KeyAdmin, directory: PostgresDirectory, uses: KeyUses, made: NewApiKey
) -> None:
    uses.note(made.key.id)
    async with directory.hold(lambda: [digest(made.secret.encode())]), asyncio.timeout(2):
        await uses.write()
    assert (await admin.key(made.key.id)).revision == made.key.revision


async def test_a_rotation_keeps_the_old_keys_last_use_and_gives_the_new_one_none(
    admin: KeyAdmin, uses: KeyUses, made: NewApiKey
) -> None:
    uses.note(made.key.id)
    await uses.write()
    rotation = await admin.rotate(made.key.id, 60, ME)
    assert rotation.old.last_used_at == NOON
    assert rotation.made.key.last_used_at is None
    await admin.change_key(made.key.id, AuditEvent.KEY_REVOKED, ME)
    assert [key.last_used_at for key in await admin.keys(made.key.account_id)] == [NOON, None]


async def test_sidecars_that_write_the_same_keys_at_once_do_not_wait_for_each_other(postgres: Postgres) -> None:
    ledger = PostgresUses(postgres)
    key_ids = [f"key_{number}" for number in range(500)]
    orders = (key_ids, key_ids[::-1]) * 8
    await asyncio.gather(*(ledger.note_uses(dict.fromkeys(order, NOON)) for order in orders))


async def test_what_could_not_be_written_is_written_later_with_its_own_time(clock: Clock) -> None:
    ledger = MemoryUses()
    uses = KeyUses(ledger, clock)
    uses.note("key_1")
    ledger.is_down = True
    with pytest.raises(StoreUnavailable):
        await uses.write(0.001)
    clock.now += SECOND
    uses.note("key_2")
    ledger.is_down = False
    await uses.write(0.001)
    assert ledger.batches == [{"key_1": NOON, "key_2": NOON + SECOND}]
    await uses.write()
    assert len(ledger.batches) == 1


async def test_a_use_that_is_noted_while_an_earlier_one_is_written_is_not_lost(clock: Clock) -> None:
    class Slow(MemoryUses):
        async def note_uses(self, uses: Mapping[str, datetime]) -> None:
            clock.now += SECOND
            noted.note("key_1")
            await super().note_uses(uses)

    ledger = Slow()
    noted = KeyUses(ledger, clock)
    noted.note("key_1")
    await noted.write()
    await noted.write()
    assert ledger.batches == [{"key_1": NOON}, {"key_1": NOON + SECOND}]


async def test_the_notes_are_bounded_and_the_oldest_are_written_first(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_uses, "NOTES_MAX", 1220)
    ledger = MemoryUses()
    uses = KeyUses(ledger, clock)
    for number in range(1300):
        uses.note(f"key_{number}")
    uses.note("key_150")
    await uses.write()
    assert [len(batch) for batch in ledger.batches] == [500, 500, 220]
    written = [key_id for batch in ledger.batches for key_id in batch]
    assert written == [f"key_{number}" for number in range(80, 1300) if number != 150] + ["key_150"]


@pytest.mark.parametrize(
    ("count", "within_s", "batches"),
    [(8, 0.52, [8]), (50, 0.52, [20, 20, 10]), (300, 0.52, [30] * 10), (1100, 0.06, [500, 500, 100])],
)
async def test_writes_are_spread_evenly_over_their_time(
    clock: Clock, count: int, within_s: float, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_uses, "_PACE_S", 0.05)
    ledger = MemoryUses()
    uses = KeyUses(ledger, clock)
    for number in range(count):
        uses.note(f"key_{number}")
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    await uses.write(within_s)
    assert [len(batch) for batch in ledger.batches] == batches
    took_s = loop.time() - started_s + 0.001
    assert took_s >= min(within_s, len(batches) * 0.05)
