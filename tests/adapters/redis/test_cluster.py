"""Failures of a real cluster: crashes, promotions, lost revokes, hangs. No record of an old epoch is trusted."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest
from msgspec.structs import replace
from support.builders import record
from support.contracts.key_lookups import put, start_take, take_one, take_when_available
from support.contracts.key_projections import bump_epoch, connected_store
from support.servers.redis_cluster import Cluster, account_at, cluster, digest_at, header

from authz.adapters.redis.connection.cluster import RedisCluster
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.records import BUCKET_BYTES, redis_key
from authz.adapters.redis.store import RedisStore, redis_store
from authz.core.check import KeyState, Take, TakeOutcome
from authz.core.errors import StoreUnavailable

DIGEST = os.urandom(32)
REVOKED = record(state=KeyState.REVOKED, revision=2)


@pytest.fixture
def made(folder: Path) -> Iterator[Cluster]:
    """A cluster that only this test uses and may break; its first node has a replica."""
    with cluster(folder, replicated=True) as made:
        yield made
        for node in made.nodes:
            node.signal(SIGCONT)


@pytest.fixture
async def store(made: Cluster) -> AsyncIterator[RedisStore]:
    async with connected_store(made.url) as store:
        yield store


async def test_a_revoke_lost_in_a_promotion_is_not_lost_and_other_nodes_keep_their_records(
    made: Cluster, store: RedisStore
) -> None:
    first, second, _ = made.primaries
    assert made.replica is not None
    digest, elsewhere = digest_at(made, first), digest_at(made, second)
    await put(store.keys, digest, record())
    await put(store.keys, elsewhere, record())
    before = store.keys.epoch_of(digest)
    made.until_replicated()
    made.replica.signal(SIGSTOP)
    old = header(first, digest)
    await put(store.keys, digest, REVOKED)
    first.kill()
    made.replica.signal(SIGCONT)
    while made.replica.execute("ROLE")[0] != "master" or not isinstance(await start_take(store.keys, elsewhere), Take):
        await asyncio.sleep(0.01)
    made.replica.execute("SETRANGE", redis_key(digest), BUCKET_BYTES, old)  # the revoke may have been on its way
    assert await take_when_available(store.keys, digest) is None
    assert store.keys.epoch_of(digest) not in {"", before}
    assert (await take_one(store.keys, elsewhere)).outcome is TakeOutcome.GRANTED
    assert not await put(store.keys, digest, record(), epoch=before)
    assert await put(store.keys, digest, REVOKED, epoch=store.keys.epoch_of(digest))
    assert (await take_one(store.keys, digest)).outcome is TakeOutcome.REVOKED
    assert store.link.is_up


async def test_a_revoke_lost_by_a_restart_from_a_snapshot_is_not_lost(made: Cluster, store: RedisStore) -> None:
    third = made.primaries[2]
    digest = digest_at(made, third)
    await put(store.keys, digest, record())
    third.execute("SAVE")
    old = header(third, digest)
    await put(store.keys, digest, REVOKED)
    third.kill()
    third.start()
    while not third.is_ok:
        await asyncio.sleep(0.01)
    assert header(third, digest) == old
    assert await take_when_available(store.keys, digest) is None


async def test_no_record_of_an_old_epoch_is_trusted_even_without_notice(made: Cluster, store: RedisStore) -> None:
    first = made.primaries[0]
    digest = digest_at(made, first)
    await put(store.keys, digest, record())
    assert isinstance(await start_take(store.keys, digest), Take)
    bump_epoch(first, made.primaries)
    # At once, before the link can have looked.
    with pytest.raises(StoreUnavailable, match="another life"):
        await put(store.keys, digest, record())
    assert not isinstance(await start_take(store.keys, digest), Take)
    assert await take_when_available(store.keys, digest) is None


async def test_a_planned_failover_takes_the_records_to_another_life(made: Cluster, store: RedisStore) -> None:
    digest = digest_at(made, made.primaries[0])
    await put(store.keys, digest, record())
    assert store.link.reconnected_at_s is None
    made.until_replicated()
    await asyncio.to_thread(made.fail_over)
    assert await take_when_available(store.keys, digest) is None
    assert store.link.reconnected_at_s is not None
    assert await put(store.keys, digest, record(), epoch=store.keys.epoch_of(digest))
    assert (await take_one(store.keys, digest)).outcome is TakeOutcome.GRANTED


async def test_a_node_that_hangs_or_is_gone_is_an_outage_of_its_own_keys_only(made: Cluster) -> None:
    third = made.primaries[2]
    broken, whole = digest_at(made, third), digest_at(made, made.primaries[1])
    for node in made.primaries[:2]:
        node.execute("CONFIG", "SET", "cluster-require-full-coverage", "no")
    async with connected_store(made.url, deadline_s=0.1) as store:
        # An account is where its own key's slot is.
        of_whole = account_at(made, made.primaries[1])
        await put(store.keys, broken, record())
        await put(store.keys, whole, replace(record(), account_id=of_whole))
        third.signal(SIGSTOP)
        await assert_an_outage_of_one(store, broken, whole)
        third.kill()
        await assert_an_outage_of_one(store, broken, whole)
        third.start()
        assert await take_when_available(store.keys, broken) is None
        while not store.link.is_up:
            await asyncio.sleep(0.01)


async def assert_an_outage_of_one(store: RedisStore, broken: bytes, whole: bytes) -> None:
    for _ in range(20):
        started_s = time.monotonic()
        gone, there = await asyncio.gather(start_take(store.keys, broken), start_take(store.keys, whole))
        assert isinstance(gone, StoreUnavailable)
        assert isinstance(there, Take)
        assert time.monotonic() - started_s < 0.5
    assert not store.link.is_up


async def test_any_node_leads_to_all_of_them_and_dead_ones_do_not_keep_anybody_out(made: Cluster) -> None:
    assert made.replica is not None
    made.primaries[0].kill()
    dead, replica = made.primaries[0].port, made.replica.port
    async with connected_store(f"redis+cluster://127.0.0.1:{dead},127.0.0.1:{replica}") as store:
        # Until the replica has taken over, the nodes themselves may say that the cluster is down.
        for node in made.primaries:
            assert await take_when_available(store.keys, digest_at(made, node)) is None


async def test_scripts_on_other_keys_run_where_their_key_is(redis_cluster: Cluster) -> None:
    count = Script(b"return redis.call('INCR', KEYS[1])")
    async with connected_store(redis_cluster.url) as store:
        for number in range(20):
            key = b"counter-%d-%b" % (number, os.urandom(4).hex().encode())
            assert [await store.link.call(count, key) for _ in range(2)] == [1, 2]
        with pytest.raises(StoreUnavailable, match="wrong"):
            await store.link.call(Script(b"return redis.error_reply('wrong')"), b"k")


async def test_what_is_no_cluster_is_an_outage_with_a_reason(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    url = redis_url.replace("redis://", "redis+cluster://")
    link = RedisCluster(url, deadline_s=1, in_flight_max=10)
    link.start()
    while not caplog.records:
        await asyncio.sleep(0.005)
    assert "cluster support disabled" in caplog.records[0].error  # type: ignore[attr-defined]  # an extra
    with pytest.raises(StoreUnavailable, match="no known node"):
        await link.call(Script(b"return 1"), b"k")
    assert not link.is_up
    assert not link.reached.is_set()
    await link.close()


async def test_before_anything_is_known_keys_are_answered_all_the_same() -> None:
    store = redis_store("redis+cluster://127.0.0.1:1", deadline_s=1, in_flight_max=10, negative_ttl_s=5)
    assert isinstance(await start_take(store.keys, DIGEST), StoreUnavailable)
    assert store.keys.epoch_of(DIGEST) == ""
    with pytest.raises(StoreUnavailable, match="no known node"):
        await put(store.keys, DIGEST, record())
    await store.link.close()
