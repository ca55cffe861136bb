"""A record that arrives late has no effect: its lock is released by then, and Redis may have lost a newer one."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest
from support.builders import record
from support.contracts.key_lookups import account, start_take
from support.contracts.redis_commands import DEADLINE_S, started_link, wait_until_up
from support.servers.delay_proxy import DelayProxy, delayed

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.server_clock import ServerClock
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.records import CHECK, PUT, redis_key
from authz.core.check import KeyState
from authz.core.errors import StoreUnavailable
from authz.demo.servers import RedisServer

KEYS = 10
ROUND_TRIP_S = 0.3
REVOKED = record(state=KeyState.REVOKED, revision=2)


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[DelayProxy]:
    async with delayed(("127.0.0.1", server.port)) as proxy:
        yield proxy


@pytest.fixture
async def slow(proxy: DelayProxy) -> AsyncIterator[RedisLink]:
    """A sidecar's link, whose network becomes slow when `proxy` does."""
    async with started_link(f"redis://127.0.0.1:{proxy.port}/0", scripts=(CHECK, PUT)) as link:
        yield link


@pytest.fixture
async def operator(server: RedisServer) -> AsyncIterator[RedisLink]:
    async with started_link(server.url, scripts=(CHECK, PUT)) as link:
        yield link


@pytest.mark.parametrize("flushed_first", [False, True], ids=["revoked, flushed", "flushed, revoked"])
@pytest.mark.parametrize("turn", range(4))
async def test_no_late_record_brings_a_revoked_key_back(
    proxy: DelayProxy, slow: RedisLink, operator: RedisLink, turn: int, *, flushed_first: bool
) -> None:
    digests = [os.urandom(32) for _ in range(KEYS)]
    for link in (slow, operator):
        await wait_until_up(link)
    proxy.delay_s = ROUND_TRIP_S + turn * DEADLINE_S
    late, prompt = RedisKeys(slow, negative_ttl_s=5), RedisKeys(operator, negative_ttl_s=5)
    loads = [late.put(digest, record(), epoch=slow.epoch) for digest in digests]
    assert all(isinstance(done, StoreUnavailable) for done in await asyncio.gather(*loads, return_exceptions=True))
    if flushed_first:
        await operator.ask("FLUSHALL")
    await asyncio.gather(*(revoked(prompt, digest) for digest in digests))
    if not flushed_first:
        await operator.ask("FLUSHALL")
    await asyncio.sleep(proxy.delay_s)
    proxy.delay_s = 0
    await wait_until_up(operator)
    await prompt.put_account(account(record().account_id))
    takes = await asyncio.gather(*(start_take(prompt, digest) for digest in digests))
    outcomes = {None if take is None or isinstance(take, StoreUnavailable) else take.outcome.name for take in takes}
    assert outcomes == ({"REVOKED"} if flushed_first else {None})


async def revoked(keys: RedisKeys, digest: bytes) -> None:
    """Revoke a key, which works at once after a flush."""
    assert await keys.put(digest, REVOKED)


async def test_a_load_of_before_a_flush_writes_nothing_whatever_the_clocks_say(
    operator: RedisLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wait_until_up(operator)
    keys, digest = RedisKeys(operator, negative_ttl_s=5), os.urandom(32)
    # As if the clock of Redis had been set back while the load was on its way.
    monkeypatch.setattr(ServerClock, "earliest_us", lambda _self, _at_s: 2**52)
    epoch, mark = keys.epoch_of(digest), operator.data_mark
    await operator.ask("FLUSHALL")
    assert await keys.put(digest, record(), epoch=epoch) is False
    assert await keys.put_account(account("acct_1"), epoch=epoch) is False
    assert operator.data_mark not in {b"", mark}
    assert await operator.ask("DBSIZE") == 1  # the mark
    assert keys.epoch_of(digest) != epoch
    assert await keys.put(digest, record(), epoch=keys.epoch_of(digest))


async def test_a_change_is_written_to_the_data_that_replaced_the_former_ones(operator: RedisLink) -> None:
    await wait_until_up(operator)
    keys, digest = RedisKeys(operator, negative_ttl_s=5), os.urandom(32)
    for _ in range(3):
        await operator.ask("FLUSHALL")
        await revoked(keys, digest)
        assert await operator.ask("EXISTS", redis_key(digest)) == 1


async def test_no_late_record_ends_a_suspension(proxy: DelayProxy, slow: RedisLink, operator: RedisLink) -> None:
    for link in (slow, operator):
        await wait_until_up(link)
    proxy.delay_s = ROUND_TRIP_S
    with pytest.raises(StoreUnavailable):
        await RedisKeys(slow, negative_ttl_s=5).put_account(account("acct_1"), epoch=slow.epoch)
    await operator.ask("FLUSHALL")
    await asyncio.sleep(proxy.delay_s)
    await wait_until_up(operator)
    assert await operator.ask("EXISTS", "a:acct_1") == 0


async def test_a_write_whose_effect_is_open_is_not_reported_before_its_end(proxy: DelayProxy, slow: RedisLink) -> None:
    await wait_until_up(slow)
    proxy.delay_s = ROUND_TRIP_S
    started_s = time.monotonic()
    writing = asyncio.ensure_future(RedisKeys(slow, negative_ttl_s=5).put(os.urandom(32), record(), epoch=slow.epoch))
    await asyncio.sleep(DEADLINE_S / 5)
    slow._pipe.abort()  # type: ignore[union-attr]  # noqa: SLF001 -- the command is on its way
    with pytest.raises(StoreUnavailable):
        await writing
    assert time.monotonic() - started_s >= DEADLINE_S


async def test_a_clock_that_was_set_forward_delays_writes_until_it_was_read_again(
    operator: RedisLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wait_until_up(operator)
    keys, digest = RedisKeys(operator, negative_ttl_s=5), os.urandom(32)
    with monkeypatch.context() as patched:
        patched.setattr(ServerClock, "earliest_us", lambda _self, _at_s: 1)  # as if Redis had gone ahead since
        with pytest.raises(StoreUnavailable, match="too late"):
            await keys.put(digest, record())
    assert await keys.put(digest, record())


def test_the_earliest_time_of_a_server_is_counted_from_the_arrival_of_its_reply() -> None:
    clock = ServerClock()
    assert clock.earliest_us(time.monotonic()) == 0
    clock.read(StoreUnavailable("redis", "no answer"))
    assert clock.earliest_us(time.monotonic()) == 0
    before_s = time.monotonic()
    clock.read([b"1000", b"250"])
    after_s = time.monotonic()
    assert 1_000_000_250 + (5 - after_s + before_s) * 1e6 - 2 <= clock.earliest_us(before_s + 5) <= 1_005_000_250
