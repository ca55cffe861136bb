"""The primary is found through real sentinels, and found again after it crashed, hung or was demoted."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest
import redis
from support.builders import record
from support.contracts.key_lookups import put, start_take, take_one
from support.contracts.key_projections import connected_store
from support.contracts.redis_commands import send as send_command
from support.contracts.redis_commands import started_link, wait_until_up
from support.fakes.redis import tls_or_plain_proxy, tls_proxy
from support.servers.redis_acl import PASSWORD, SENTINEL_USER, SERVER_USER, USER
from support.servers.redis_sentinel import NAME, Sentinels, SentinelServer, sentinels

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.primary import LEFT_WITHIN_S, TRUST_S, SentinelPrimary
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.records import BUCKET_BYTES, CHECK, PUT, redis_key
from authz.core.check import KeyRecord, KeyState, TakeOutcome
from authz.core.errors import StoreUnavailable
from authz.demo.servers import RedisServer
from authz.service.ports import TakeReply

DIGEST = os.urandom(32)


@pytest.fixture
def watched(folder: Path) -> Iterator[Sentinels]:
    with sentinels(folder) as watched:
        yield watched
        for server in (watched.first, watched.second, *watched.sentinels):
            server.signal(SIGCONT)


@pytest.fixture
async def link(watched: Sentinels) -> AsyncIterator[RedisLink]:
    link = RedisLink(watched.url, deadline_s=0.2, in_flight_max=1000, scripts=(CHECK, PUT))
    link.start()
    await link.reached.wait()
    yield link
    await link.close()


async def port_of(link: RedisLink) -> int:
    """Return the port of the connected server; 0 while there is no connection."""
    answer = await send_command(link, "CONFIG", "GET", "port")
    return int(answer[1]) if isinstance(answer, list) else 0


async def until_at(link: RedisLink, port: int) -> None:
    while await port_of(link) != port:
        await asyncio.sleep(0.01)


async def test_a_key_revoked_before_a_crash_stays_refused_after_the_promotion(
    watched: Sentinels, link: RedisLink
) -> None:
    keys = RedisKeys(link, negative_ttl_s=5)
    before = link.epoch
    assert await port_of(link) == watched.first.port
    await put(keys, DIGEST, record())
    with watched.client(watched.first) as client:
        before_the_revoke = client.getrange(redis_key(DIGEST), BUCKET_BYTES, -1)
    await put(keys, DIGEST, record(state=KeyState.REVOKED, revision=2))
    watched.until_replicated()
    with watched.client(watched.second) as client:  # as if the revoke had not reached it any more
        client.config_set("replica-read-only", "no")
        client.setrange(redis_key(DIGEST), BUCKET_BYTES, before_the_revoke)
    watched.first.kill()
    replies: list[TakeReply] = []
    while not replies or isinstance(replies[-1], StoreUnavailable):
        replies.append(await start_take(keys, DIGEST))
        await asyncio.sleep(0.01)
    assert replies[-1] is None  # read anew from Postgres, not from before
    assert await port_of(link) == watched.second.port
    assert link.epoch not in {"", before}
    with watched.client(watched.second) as client:
        assert client.getrange(redis_key(DIGEST), BUCKET_BYTES, -1) == before_the_revoke


async def test_a_primary_demoted_by_order_is_left_for_the_promoted(watched: Sentinels, link: RedisLink) -> None:
    keys = RedisKeys(link, negative_ttl_s=5)
    before = link.epoch
    await put(keys, DIGEST, record())
    watched.until_replicated()
    watched.fail_over()
    await until_at(link, watched.second.port)
    assert link.epoch not in {"", before}
    assert await start_take(keys, DIGEST) is None
    assert await put(keys, DIGEST, record(), epoch=link.epoch)
    assert (await take_one(keys, DIGEST)).outcome is TakeOutcome.GRANTED


async def test_a_primary_that_hung_through_its_replacement_is_not_believed_when_it_goes_on(
    watched: Sentinels, link: RedisLink
) -> None:
    watched.first.signal(SIGSTOP)
    await until_at(link, watched.second.port)
    watched.first.signal(SIGCONT)
    for _ in range(100):
        # A connection may be lost, and 0 is none; it is never again one to the former primary.
        assert await port_of(link) in {0, watched.second.port}
        await asyncio.sleep(0.01)
    await until_at(link, watched.second.port)


async def test_a_primary_that_does_not_know_of_its_replacement_is_left(watched: Sentinels, link: RedisLink) -> None:
    # Sentinels would demote it at once; as behind a partition, the order does not reach it.
    with watched.client(watched.first) as client:
        client.execute_command("ACL", "SETUSER", "default", "-replicaof", "-slaveof", "-client", "-config")
        watched.fail_over()
        while not link.is_up or link.epoch == client.info("replication")["master_replid"][:8]:
            await asyncio.sleep(0.01)
        assert client.info("replication")["role"] == "master"
    assert link.is_up


def hide_failovers(watched: Sentinels) -> None:
    """Make the present primary refuse its demotion, as one that a partition separates from its sentinels."""
    with watched.client(watched.first) as client:
        client.execute_command("ACL", "SETUSER", "default", "-replicaof", "-slaveof", "-client", "-config")


async def test_a_process_that_was_frozen_during_a_failover_writes_nothing_to_the_former_primary(
    watched: Sentinels, link: RedisLink
) -> None:
    hide_failovers(watched)
    before = link.epoch
    watched.fail_over()
    with watched.client(watched.second) as client:
        while client.info("replication")["role"] != "master":
            time.sleep(0.01)  # noqa: ASYNC251 -- the event loop is what stands still
    time.sleep(TRUST_S)  # noqa: ASYNC251 -- the same
    written = send_command(link, "SET", "k:written", "1")
    assert isinstance(await written, StoreUnavailable)
    with watched.client(watched.first) as client:
        assert not client.exists("k:written")
    await wait_until_up(link)
    assert link.epoch not in {"", before}


async def test_a_change_that_reached_a_replaced_primary_is_not_done(
    watched: Sentinels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SentinelPrimary, "watch_interval_s", 60.0)
    monkeypatch.setattr("authz.adapters.redis.connection.primary.TRUST_S", 60.0)
    async with connected_store(watched.url) as store:
        hide_failovers(watched)
        assert await store.keys.put(DIGEST, record())
        watched.fail_over()
        for sentinel in watched.sentinels:
            with redis.Redis("127.0.0.1", sentinel.port) as client:
                while client.sentinel_get_master_addr_by_name(NAME)[1] != watched.second.port:
                    await asyncio.sleep(0.01)
        with pytest.raises(StoreUnavailable, match="replaced during a change"):
            await store.keys.put(DIGEST, record(state=KeyState.REVOKED, revision=2))


async def test_changes_wait_until_every_process_has_left_the_former_primary(watched: Sentinels) -> None:
    async with connected_store(watched.url) as store:
        await store.keys.settled()
        before, started_s = store.keys.epoch_of(DIGEST), time.monotonic()
        await store.keys.settled()
        assert time.monotonic() - started_s < LEFT_WITHIN_S / 2
        watched.until_replicated()
        watched.fail_over()
        while store.keys.epoch_of(DIGEST) in {"", before}:
            await asyncio.sleep(0.01)
        started_s = time.monotonic()
        await store.keys.settled()
        assert LEFT_WITHIN_S - 0.3 < time.monotonic() - started_s < LEFT_WITHIN_S + 0.5
        async with connected_store(watched.url) as other:  # what counts is the first use of the epoch
            started_s = time.monotonic()
            await other.keys.settled()
            assert time.monotonic() - started_s < LEFT_WITHIN_S / 2


async def test_sentinels_that_hang_or_are_gone_keep_nobody_out(watched: Sentinels, link: RedisLink) -> None:
    watched.sentinels[0].signal(SIGSTOP)
    watched.sentinels[1].kill()
    await send_command(link, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
    while link.is_up:
        await asyncio.sleep(0)
    assert await wait_until_up(link) < 2
    watched.sentinels[2].kill()
    epoch = link.epoch
    for _ in range(150):  # longer than the interval at which they are start_take
        assert (link.is_up, link.epoch) == (True, epoch)
        await asyncio.sleep(0.01)


async def test_a_name_that_no_sentinel_knows_is_an_outage_with_a_reason(watched: Sentinels) -> None:
    link = RedisLink(watched.url.replace(NAME, "other"), deadline_s=0.2, in_flight_max=10)
    with pytest.raises(StoreUnavailable, match="No such master"):
        await link._handshake.connect()  # noqa: SLF001 -- one attempt, without the loop around it
    await link.close()


async def test_tls_and_acl_users_hold_for_sentinels_and_what_they_lead_to(folder: Path) -> None:
    server = RedisServer(folder)
    server.start()
    user = " ".join(SENTINEL_USER[2:])
    async with tls_or_plain_proxy(server.port) as port:
        sentinel = SentinelServer(folder, 0, port, f"user {user}", "requirepass another")
        sentinel.start_up()
        try:
            with redis.Redis(port=server.port) as client:
                client.execute_command(*SERVER_USER)
                client.execute_command("CONFIG", "SET", "requirepass", "another")
            async with tls_proxy(f"redis://127.0.0.1:{sentinel.port}") as sentinel_url:
                place, _, ssl = sentinel_url.removeprefix("rediss://").partition("/0?")
                users = f"sentinel_username={USER}&sentinel_password={PASSWORD}"
                url = f"rediss+sentinel://{USER}:{PASSWORD}@{place}/{NAME}?{users}&{ssl}"
                async with started_link(url, scripts=(CHECK, PUT)) as link:
                    await link.reached.wait()
                    keys = RedisKeys(link, negative_ttl_s=5)
                    assert await put(keys, DIGEST, record())
                    assert (await take_one(keys, DIGEST)).outcome is TakeOutcome.GRANTED
                    assert await put(keys, DIGEST, KeyRecord(KeyState.UNKNOWN), epoch=link.epoch) is False
                wrong = RedisLink(url.replace(f"word={PASSWORD}", "word=hunter2"), deadline_s=0.2, in_flight_max=10)
                for _ in range(10):
                    with pytest.raises(StoreUnavailable) as raised:
                        await wrong._handshake.connect()  # noqa: SLF001 -- one attempt, without the loop around it
                    if "no sentinel answers" not in str(raised.value):  # on a busy machine TLS takes longer than 0.2 s
                        break
                await wrong.close()
                assert not raised.value.transient
                assert "hunter2" not in str(raised.value)
        finally:
            sentinel.kill()
            server.stop()
