"""Buckets that Redis lost: full again, or with what was refilled since, as AUTHZ_LOST_BUCKETS says."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from support.contracts.key_lookups import account, record
from support.servers.redis_cluster import Cluster

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.records import CHECK, PUT
from authz.core.check import KeyRecord, Lookup, Take, TakeOutcome
from authz.core.errors import SettingsError
from authz.core.limits import Limit, LostBuckets
from authz.demo.servers import RedisServer
from authz.settings import load

TIGHT = Limit(20, 2)
ROOMY = Limit(1000, 1000)
OLD = record(limit=TIGHT)


class Asked:
    """One key, asked as often as it admits; loads its record where Redis has none."""

    def __init__(self, link: RedisLink, lost_buckets: LostBuckets, account_limit: Limit = ROOMY) -> None:
        self.link = link
        self.keys = RedisKeys(link, negative_ttl_s=5, lost_buckets=lost_buckets)
        self.digest = os.urandom(32)
        self._account_limit = account_limit

    async def load(self, record: KeyRecord = OLD) -> None:
        epoch = self.keys.epoch_of(self.digest)
        assert await self.keys.put(self.digest, record, epoch=epoch)
        assert await self.keys.put_account(account(record.account_id), epoch=epoch)

    async def granted(self) -> int:
        """Take tokens until one is refused; return their number."""
        for number in range(200):
            if await self._take() is not TakeOutcome.GRANTED:
                return number
        raise AssertionError("no limit")

    async def _take(self) -> TakeOutcome:
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        lookups = [Lookup(self.digest, 1, None)]
        self.keys.take(lookups, TIGHT, lambda _, replies: answer.set_result(replies[0]), account=self._account_limit)
        take = await answer
        assert isinstance(take, Take)
        return take.outcome


@asynccontextmanager
async def linked(server: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(server.url, deadline_s=1, in_flight_max=100, scripts=(CHECK, PUT))
    link.start()
    await link.reached.wait()
    yield link
    await link.close()


async def flush(link: RedisLink) -> None:
    """Lose everything; a load that notices it renews the mark."""
    before = link.data_mark
    await link.ask("FLUSHALL")
    assert await RedisKeys(link, negative_ttl_s=5).put(os.urandom(32), record())
    assert link.data_mark != before


async def begin_epoch(link: RedisLink) -> None:
    """Demote and promote the server: it may have lost the latest writes, and keeps its strings."""
    before = link.epoch
    await asyncio.gather(link.ask("REPLICAOF", "127.0.0.1", "1"), link.ask("REPLICAOF", "NO", "ONE"))
    async with asyncio.timeout(5):
        while link.epoch in {"", before}:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("lost_buckets", "loss", "again"),
    [
        (LostBuckets.FULL, flush, TIGHT.capacity),
        (LostBuckets.FULL, begin_epoch, 0),
        (LostBuckets.REFILLED, flush, 0),
        (LostBuckets.REFILLED, begin_epoch, 0),
    ],
)
async def test_a_loss_gives_a_bucket_back_at_most_what_the_setting_says(
    server: RedisServer, lost_buckets: LostBuckets, loss: Callable[[RedisLink], Awaitable[None]], again: int
) -> None:
    async with linked(server) as link:
        asked = Asked(link, lost_buckets)
        await asked.load()
        await asked.granted()  # it is empty, whatever it began with
        started_s = monotonic()
        await loss(link)
        await asked.load()
        over = await asked.granted()
        refilled = (monotonic() - started_s + 1) * TIGHT.refill_per_s
        assert again <= over <= again + refilled


async def test_what_was_refilled_since_a_loss_is_there_for_every_key_and_account(server: RedisServer) -> None:
    limit = Limit(1000, 20)
    async with linked(server) as link:
        for account_limit in (ROOMY, limit):
            asked = Asked(link, LostBuckets.REFILLED, account_limit)
            await flush(link)
            await asked.load(record(limit=limit if account_limit is ROOMY else ROOMY))
            assert await asked.granted() <= 2
            late = Asked(link, LostBuckets.REFILLED, account_limit)
            since_s = monotonic()
            await asyncio.sleep(0.5)
            await late.load(record(limit=limit if account_limit is ROOMY else ROOMY))
            found = await late.granted()
            assert found <= (monotonic() - since_s + 0.5) * limit.refill_per_s
            if account_limit is ROOMY:  # its account is that of the other key otherwise, and was asked meanwhile
                assert found >= 0.5 * limit.refill_per_s - 1


async def test_a_new_key_begins_full_in_a_new_epoch_too(server: RedisServer) -> None:
    async with linked(server) as link:
        await flush(link)
        asked = Asked(link, LostBuckets.REFILLED, account_limit=ROOMY)
        await asked.load(record())  # its account has lost its bucket
        new = Asked(link, LostBuckets.REFILLED)
        assert await new.keys.put(new.digest, OLD)
        await asyncio.sleep(0.05)
        assert await new.granted() >= TIGHT.capacity


async def test_a_change_of_a_lost_key_does_not_fill_its_bucket(server: RedisServer) -> None:
    async with linked(server) as link:
        asked = Asked(link, LostBuckets.REFILLED)
        await flush(link)
        assert await asked.keys.put(asked.digest, record(limit=TIGHT, revision=5))
        await asked.keys.put_account(account(OLD.account_id), epoch=asked.keys.epoch_of(asked.digest))
        assert await asked.granted() <= 2


def test_a_cluster_cannot_know_when_one_node_lost_its_data(
    redis_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHZ_REDIS_URL", redis_cluster.url)
    assert load().lost_buckets is LostBuckets.FULL
    monkeypatch.setenv("AUTHZ_LOST_BUCKETS", "refilled")
    with pytest.raises(SettingsError, match="AUTHZ_LOST_BUCKETS must be full in a cluster"):
        load()
