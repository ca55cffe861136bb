"""The ACL users of docs/redis.md have the permissions that they need, on a server and in a cluster, and no more."""

import os

import pytest
from msgspec.structs import replace
from support.builders import record
from support.contracts.key_lookups import DEFAULT, put, start_take, take_many, take_one
from support.contracts.key_projections import connected_store
from support.contracts.redis_commands import started_link
from support.servers.redis_acl import CLUSTER_USER, PASSWORD, PORTAL_USER, SERVER_USER, USER
from support.servers.redis_cluster import Cluster

from authz.adapters.redis.connection.scripts import Caller, Script
from authz.adapters.redis.grants import RedisGrants
from authz.adapters.redis.leases import RedisLeases
from authz.adapters.redis.sessions import RedisSessions
from authz.adapters.redis.store import RedisStore
from authz.adapters.redis.throttles import RedisThrottles
from authz.core.check import Take, TakeOutcome
from authz.core.device import Approval, GrantStatus
from authz.core.errors import StoreUnavailable
from authz.core.limits import KeyLimits, Limit, NamedLimit
from authz.core.streams import AcquireOutcome, Lease, StreamClass
from authz.demo.servers import RedisServer

PUSH = Script(b"return redis.call('LPUSH', KEYS[1], '1')")
LOGS = StreamClass("logs", 100, 100, 60)
APPROVAL = Approval("acct_1", frozenset({"servers:read"}))


SEVERAL = KeyLimits((NamedLimit("default", DEFAULT), NamedLimit("daily", Limit(9, 1))), {}, 60)


async def work_as_the_sidecar(store: RedisStore) -> None:
    digest = os.urandom(32)
    assert await put(store.keys, digest, record())
    assert (await take_one(store.keys, digest)).outcome is TakeOutcome.GRANTED
    assert await put(store.keys, digest, record(revision=2))
    # Several buckets, which get their tokens back where the account refuses.
    owned = replace(record(), account_id=f"acct_{os.urandom(8).hex()}")
    digest = os.urandom(32)
    assert await put(store.keys, digest, owned)
    several = [await start_take(store.keys, digest, account=Limit(1, 0.01), limits=SEVERAL) for _ in range(2)]
    outcomes = [take.outcome for take in several if isinstance(take, Take)]
    assert outcomes == [TakeOutcome.GRANTED, TakeOutcome.LIMITED]
    leases, lease = RedisLeases(store.link), Lease(os.urandom(4).hex(), "acct_1", "key_1", LOGS.name)
    assert (await leases.acquire(lease, LOGS, 5)).outcome is AcquireOutcome.GRANTED
    await leases.renew(lease, LOGS, 1)
    await leases.suspect(lease, 5)
    assert await leases.streams("acct_1", LOGS.name)
    await leases.undo(lease)
    await leases.release(lease, guard_s=5)
    for key in (b"k:elsewhere", b"other"):
        with pytest.raises(StoreUnavailable, match=r"NOPERM|can't run this command|no permissions"):
            await store.link.call(PUSH, key)


async def work_as_the_portal(link: Caller) -> None:
    digest, code = os.urandom(32), os.urandom(4).hex()
    sessions, grants, throttles = RedisSessions(link, idle_s=60, life_s=120), RedisGrants(link), RedisThrottles(link)
    await sessions.open(digest, "acct_1", 1)
    assert await sessions.use(digest) == ("acct_1", 1)
    assert [session.generation for session in await sessions.listed("acct_1")] == [1]
    await sessions.end(digest)
    assert await sessions.listed("acct_1") == []
    assert await sessions.use(digest) is None
    assert await grants.start(code, digest, "203.0.113.9", "cli", 60, frozenset())
    assert await grants.look(code)
    assert await grants.decide(code, APPROVAL)
    assert await grants.poll(code, digest) == (GrantStatus.APPROVED, APPROVAL)
    await grants.settle(code, is_over=True)
    assert await throttles.take("kind", code, 1, 60)
    await throttles.refund("kind", code)


async def test_the_users_for_a_server_are_enough_and_no_more(server: RedisServer) -> None:
    async with started_link(server.url) as admin:
        await admin.reached.wait()
        await admin.ask(*SERVER_USER)
        url = server.url.replace("//", f"//{USER}:{PASSWORD}@")
        async with connected_store(url) as store:
            await work_as_the_sidecar(store)
        await admin.ask(*PORTAL_USER)
        async with connected_store(url) as store:
            await work_as_the_portal(store.link)


@pytest.mark.parametrize("right", ["+mget", "-mget"])
async def test_checks_share_a_script_with_and_without_the_right_to_mget(server: RedisServer, right: str) -> None:
    async with started_link(server.url) as admin:
        await admin.reached.wait()
        await admin.ask(*SERVER_USER, right)
        async with connected_store(server.url.replace("//", f"//{USER}:{PASSWORD}@")) as store:
            digests = [os.urandom(32) for _ in range(3)]
            for digest in digests:
                await put(store.keys, digest, record())
                await take_one(store.keys, digest)
            for reply in await take_many(store.keys, digests):
                assert isinstance(reply, Take)
                assert reply.outcome is TakeOutcome.GRANTED


async def test_the_users_for_a_cluster_are_enough_and_no_more(redis_cluster: Cluster) -> None:
    for node in redis_cluster.primaries:
        node.execute(*CLUSTER_USER)
    url = redis_cluster.url.replace("//", f"//{USER}:{PASSWORD}@")
    async with connected_store(url) as store:
        for _ in range(10):
            await work_as_the_sidecar(store)
        for node in redis_cluster.primaries:
            node.execute(*PORTAL_USER)
        for _ in range(10):
            await work_as_the_portal(store.link)
