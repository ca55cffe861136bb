"""Leases in the real Redis: one hash slot, nothing left behind, and key changes that reach a key's open streams."""

import asyncio
import os

import pytest
from msgspec.structs import replace
from redis.crc import key_slot
from support.builders import LOGS, record
from support.contracts.key_lookups import put, take_lookups, take_one
from support.contracts.redis_commands import send

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.leases import RedisLeases, _keys
from authz.adapters.redis.store import RedisStore
from authz.core.check import AccountRecord, KeyState, Lookup
from authz.core.errors import StoreUnavailable
from authz.core.policy.route import Access, Route
from authz.core.streams import AcquireOutcome, Lease, Opening, RenewOutcome

TTL = Script(b"return redis.call('PTTL', KEYS[1])")
PUT_FIELD = Script(b"return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])")

STREAM = Route("GET", "/v1/servers/{id}/logs/stream", Access.SCOPE, "servers:read", stream=LOGS.name)


@pytest.fixture
def leases(link: RedisLink) -> RedisLeases:
    return RedisLeases(link)


@pytest.fixture
def lease() -> Lease:
    return Lease("11815445872979696122", f"acct_{os.urandom(6).hex()}", "key_1", "logs")


def test_all_that_a_script_touches_is_in_one_slot(lease: Lease) -> None:
    assert len({key_slot(key) for key in _keys(lease)}) == 1
    assert key_slot(_keys(lease)[0]) == key_slot(lease.account_id.encode())


async def test_nothing_is_kept_for_ever(leases: RedisLeases, link: RedisLink, lease: Lease) -> None:
    await leases.acquire(lease, LOGS, 15)
    assert 0 < await link.call(TTL, _keys(lease)[0]) <= 7_200_000
    await leases.release(lease, guard_s=60)
    assert await link.call(TTL, _keys(lease)[0]) == -2
    assert 0 < await link.call(TTL, _keys(lease)[2]) <= 60_000


async def test_what_cannot_be_read_takes_no_slot(leases: RedisLeases, link: RedisLink, lease: Lease) -> None:
    for number, text in enumerate((b"", b"key_1", b"key_1 1 2 3 4", b"key_1 x 9999999999999 9999999999999 0 1")):
        await link.call(PUT_FIELD, _keys(lease)[0], b"broken-%d" % number, text)
    answer = await leases.acquire(lease, LOGS, 15)
    assert (answer.outcome, answer.of_key, answer.expired) == (AcquireOutcome.GRANTED, 1, 4)
    assert [it.lease for it in await leases.streams(lease.account_id, "logs")] == [lease]


async def test_scripts_that_were_forgotten_are_given_again(own_link: RedisLink, lease: Lease) -> None:
    leases = RedisLeases(own_link)
    for _ in range(2):
        assert await send(own_link, "SCRIPT", "FLUSH") == b"OK"
        assert (await leases.acquire(lease, LOGS, 15)).of_key == 1


async def test_a_suspension_reaches_the_open_streams_of_every_key(store: RedisStore, lease: Lease) -> None:
    leases, other = RedisLeases(store.link), Lease("other", lease.account_id, "key_other", LOGS.name)
    for one in (lease, other):
        await leases.acquire(one, LOGS, 15)
    assert await store.keys.put_account(AccountRecord(lease.account_id, 2, is_suspended=True))
    assert {(await leases.renew(one, LOGS, 0)).outcome for one in (lease, other)} == {RenewOutcome.STOPPED}
    late = Lease("late", lease.account_id, "key_late", LOGS.name)
    assert (await leases.acquire(late, LOGS, 15)).outcome is AcquireOutcome.STOPPED
    assert [it.is_stopped for it in await leases.streams(lease.account_id, LOGS.name)] == [True, True]
    assert await store.keys.put_account(AccountRecord(lease.account_id, 3))
    assert (await leases.acquire(late, LOGS, 15)).outcome is AcquireOutcome.GRANTED


async def test_a_change_of_a_key_reaches_its_open_streams(store: RedisStore, lease: Lease) -> None:
    digest, keys, leases = os.urandom(32), store.keys, RedisLeases(store.link)
    mine = replace(record(), account_id=lease.account_id, key_id=lease.key_id)
    await put(keys, digest, mine)
    await leases.acquire(lease, LOGS, 15)
    outcomes = []
    for revision, state in enumerate((KeyState.DISABLED, KeyState.ACTIVE, KeyState.DISABLED, KeyState.REVOKED), 2):
        assert await put(keys, digest, replace(mine, revision=revision, state=state))
        outcomes.append((await leases.renew(lease, LOGS, 0)).outcome)
    stopped = RenewOutcome.STOPPED
    assert outcomes == [stopped, RenewOutcome.KEPT, stopped, stopped]
    await put(keys, digest, replace(mine, revision=3))  # an older change, late
    assert (await leases.renew(lease, LOGS, 0)).outcome is stopped


@pytest.mark.parametrize("loss", [("FLUSHALL",), ("DEL", "l:data"), ("SET", "l:data", "of an older snapshot")])
async def test_no_lease_is_granted_on_data_that_replaced_those_of_the_connection(
    own_link: RedisLink, lease: Lease, loss: tuple[str, ...]
) -> None:
    leases = RedisLeases(own_link)
    assert (await leases.acquire(lease, LOGS, 15)).outcome is AcquireOutcome.GRANTED
    await own_link.ask(*loss)
    with pytest.raises(StoreUnavailable, match="lost its data"):
        await leases.acquire(replace_id(lease), LOGS, 15)
    await marked(own_link)  # so that open streams are reported again
    assert (await leases.acquire(replace_id(lease), LOGS, 15)).outcome is AcquireOutcome.GRANTED


async def test_no_stream_takes_a_token_or_a_slot_on_data_that_were_replaced(own_link: RedisLink, lease: Lease) -> None:
    keys, digest = RedisKeys(own_link, negative_ttl_s=5), os.urandom(32)
    await put(keys, digest, replace(record(), account_id=lease.account_id))
    before = await take_one(keys, digest)
    await own_link.ask("DEL", "l:data")
    opening = Lookup(digest, 1, STREAM, opening=Opening("1", LOGS, 15))
    (refused,) = await take_lookups(keys, [opening])
    assert isinstance(refused, StoreUnavailable)
    await marked(own_link)
    after = await take_one(keys, digest)
    assert before.bucket is not None
    assert after.bucket is not None
    assert after.bucket.remaining == pytest.approx(before.bucket.remaining - 1, abs=0.5)
    assert await RedisLeases(own_link).streams(lease.account_id, LOGS.name) == []


async def marked(link: RedisLink) -> None:
    """Wait for the mark that follows a refused lease at once, and not after the next probe."""
    async with asyncio.timeout(0.5):
        while link.reconnected_at_s is None:
            await asyncio.sleep(0.005)
    await link.marked()


def replace_id(lease: Lease) -> Lease:
    return Lease(os.urandom(4).hex(), lease.account_id, lease.key_id, lease.stream)


async def test_an_unavailable_redis_is_reported(lease: Lease) -> None:
    link = RedisLink("redis://127.0.0.1:1/0", deadline_s=0.05, in_flight_max=1)
    with pytest.raises(StoreUnavailable):
        await RedisLeases(link).acquire(lease, LOGS, 15)
