"""Slots that move between nodes of a real cluster: every key answers all the while, and none from a stale record."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.builders import record
from support.contracts.key_lookups import put, start_take, take_one, take_when_available
from support.contracts.key_projections import connected_store
from support.fakes.redis import CERTIFICATE, tls_or_plain_proxy
from support.servers.redis_acl import CLUSTER_USER, PASSWORD, USER
from support.servers.redis_cluster import Cluster, cluster, digest_at, header, port_with_bus, slot_of

from authz.adapters.redis.connection.cluster import RedisCluster
from authz.adapters.redis.connection.slots import find_layout
from authz.adapters.redis.connection.url import read_url
from authz.adapters.redis.store import RedisStore
from authz.core.check import KeyState, Take, TakeOutcome
from authz.core.errors import StoreUnavailable

REVOKED = record(state=KeyState.REVOKED, revision=2)


@pytest.fixture
def made(folder: Path) -> Iterator[Cluster]:
    with cluster(folder) as made:
        yield made


@pytest.fixture
async def store(made: Cluster) -> AsyncIterator[RedisStore]:
    async with connected_store(made.url) as store:
        yield store


async def test_a_slot_on_the_move_answers_and_is_filled_on_both_sides(made: Cluster, store: RedisStore) -> None:
    source, target, _ = made.primaries
    staying = digest_at(made, source)
    slot = slot_of(staying)
    assert await put(store.keys, staying, record())
    made.begin_move(slot, source, target)
    assert (await take_one(store.keys, staying)).outcome is TakeOutcome.GRANTED
    # What is not on the one side any more, or not yet, is the other side's.
    source.execute("DEL", *source.execute("CLUSTER", "GETKEYSINSLOT", slot, 10))
    assert await start_take(store.keys, staying) is None
    epoch = store.keys.epoch_of(staying)
    assert len(epoch.split()) == len(made.primaries)
    assert await put(store.keys, staying, record(revision=2), epoch=epoch)
    takes = await asyncio.gather(*(take_one(store.keys, staying) for _ in range(50)))
    assert {take.outcome for take in takes} == {TakeOutcome.GRANTED}
    assert target.execute("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    assert await put(store.keys, staying, record(state=KeyState.REVOKED, revision=3))
    assert (await take_one(store.keys, staying)).outcome is TakeOutcome.REVOKED
    # The commands of others on the same connection were not sent astray.
    elsewhere = digest_at(made, target)
    assert await put(store.keys, elsewhere, record())
    assert (await take_one(store.keys, elsewhere)).outcome is TakeOutcome.GRANTED


async def test_a_moved_slot_is_followed_at_once_and_its_records_read_anew(made: Cluster, store: RedisStore) -> None:
    source, target, _ = made.primaries
    digest = digest_at(made, source)
    await put(store.keys, digest, record())
    made.move(slot_of(digest), source, target)
    # The target begins another life with it, which is an outage of a moment.
    assert await take_when_available(store.keys, digest) is None
    assert header(target, digest)
    assert await put(store.keys, digest, record(), epoch=store.keys.epoch_of(digest))
    assert (await take_one(store.keys, digest)).outcome is TakeOutcome.GRANTED
    assert isinstance(store.link, RedisCluster)
    assert len(store.link.links) == 3


async def test_a_key_revoked_after_its_slot_moved_away_stays_revoked_when_it_moves_back(
    made: Cluster, store: RedisStore
) -> None:
    home, away, _ = made.primaries
    digest = digest_at(made, home)
    await put(store.keys, digest, record())
    made.move(slot_of(digest), home, away)
    await take_when_available(store.keys, digest)
    await put(store.keys, digest, REVOKED)
    made.move(slot_of(digest), away, home)
    assert await take_when_available(store.keys, digest) is None


@pytest.mark.timeout(30)
async def test_a_revoke_lost_while_a_slot_was_away_is_not_lost_when_it_moves_back(
    made: Cluster, store: RedisStore
) -> None:
    home, away, _ = made.primaries
    digest = digest_at(made, home)
    slot = slot_of(digest)
    await put(store.keys, digest, record())
    assert isinstance(await start_take(store.keys, digest), Take)
    replication_id, trusted = home.execute("INFO", "replication")["master_replid"], header(home, digest)
    made.move(slot, home, away)
    away.execute("SAVE")
    while not await revoked(store, digest):
        await asyncio.sleep(0.01)
    away.kill()
    away.start()
    while not away.is_ok:
        await asyncio.sleep(0.01)
    made.move(slot, away, home)
    # It is back where it was believed, as it was believed; and the node has not lived another life as Redis sees it.
    assert header(home, digest) == trusted
    assert home.execute("INFO", "replication")["master_replid"] == replication_id
    assert await take_when_available(store.keys, digest) is None


async def revoked(store: RedisStore, digest: bytes) -> bool:
    try:
        return await put(store.keys, digest, REVOKED)
    except StoreUnavailable:
        return False


async def test_tls_and_an_acl_user_hold_for_all_nodes_and_for_redirections(folder: Path) -> None:
    async with AsyncExitStack() as down:
        ports = [port_with_bus() for _ in range(3)]
        announced = [(port, await down.enter_async_context(tls_or_plain_proxy(port))) for port in ports]
        with cluster(folder, announced=announced) as made:
            for node in made.primaries:
                node.execute(*CLUSTER_USER)
            first = announced[0][1]
            url = f"rediss+cluster://{USER}:{PASSWORD}@localhost:{first}?ssl_ca_certs={CERTIFICATE}"
            async with connected_store(url) as store:
                for node in made.primaries:
                    digest = digest_at(made, node)
                    assert await put(store.keys, digest, record())
                    assert (await take_one(store.keys, digest)).outcome is TakeOutcome.GRANTED
                source, target, _ = made.primaries
                digest = digest_at(made, source)
                made.begin_move(slot_of(digest), source, target)
                assert await start_take(store.keys, digest) is None
                assert await put(store.keys, digest, record())
                assert target.execute("CLUSTER", "COUNTKEYSINSLOT", slot_of(digest)) == 1
                await wrongly_linked(url)


async def wrongly_linked(url: str) -> None:
    """Assert that a link with a wrong password or an unknown certificate does not connect."""
    for wrong in (url.replace(f":{PASSWORD}@", ":hunter2@"), url.partition("?")[0]):
        with pytest.raises(StoreUnavailable) as raised:
            await find_layout(read_url(wrong), {})
        assert "hunter2" not in str(raised.value)
