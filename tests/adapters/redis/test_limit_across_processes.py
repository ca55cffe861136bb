"""Four processes that share a key share its bucket: together they admit what one would."""

import asyncio
import multiprocessing
import time
from multiprocessing.queues import Queue

import pytest
from support.contracts.key_lookups import put, take_one
from support.contracts.key_projections import connected_store
from support.servers.redis_cluster import Cluster

from authz.core.check import KeyRecord, KeyState, TakeOutcome
from authz.core.limits import Limit

PROCESSES = 4
SECONDS = 2.0
LIMIT = Limit(capacity=100, refill_per_s=50)
DIGEST = b"shared by all of the processes.."
RECORD = KeyRecord(KeyState.ACTIVE, 1, "key_1", "acct_1", frozenset({"servers:read"}), LIMIT)


async def _admitted(url: str) -> list[tuple[float, float]]:
    """Check as fast as the link allows; returns when each admitted check was start_take and answered."""
    admitted: list[tuple[float, float]] = []
    async with connected_store(url) as store:
        await put(store.keys, DIGEST, RECORD)
        end_s = time.monotonic() + SECONDS
        while (asked_s := time.monotonic()) < end_s:
            takes = await asyncio.gather(*(take_one(store.keys, DIGEST) for _ in range(16)))
            answered_s = time.monotonic()
            admitted += [(asked_s, answered_s) for take in takes if take.outcome is TakeOutcome.GRANTED]
    return admitted


def _work(url: str, results: "Queue[list[tuple[float, float]]]") -> None:
    results.put(asyncio.run(_admitted(url)))


@pytest.mark.parametrize("form", ["server", "cluster"])
def test_four_sidecars_admit_at_most_capacity_and_refill_in_any_window(
    form: str, redis_url: str, redis_cluster: Cluster
) -> None:
    url = redis_url if form == "server" else redis_cluster.url
    context = multiprocessing.get_context("spawn")
    results: Queue[list[tuple[float, float]]] = context.Queue()
    workers = [context.Process(target=_work, args=(url, results)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    each = [results.get(timeout=15) for _ in workers]
    for worker in workers:
        worker.join()
    admitted = sorted(moment for moments in each for moment in moments)
    assert sum(bool(moments) for moments in each) == PROCESSES
    # Everything admitted between two answers was start_take and answered inside of the window that spans them.
    for first, (since_s, _) in enumerate(admitted):
        until_s = since_s
        for count, (_, answered_s) in enumerate(admitted[first:], start=1):
            until_s = max(until_s, answered_s)
            assert count <= LIMIT.capacity + LIMIT.refill_per_s * (until_s - since_s)
    # And no less than a bucket gives, or the test would pass on a limiter that refuses everything.
    assert len(admitted) >= LIMIT.capacity + LIMIT.refill_per_s * SECONDS * 0.8
