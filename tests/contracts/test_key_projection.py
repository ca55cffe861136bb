"""What every projection of key records promises: the one in memory that other tests use, and Redis."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from builders import record
from projections import MemoryProjection
from takes import DEFAULT

from authz.adapters.redis_keys import CHECK, PUT, RedisKeys
from authz.adapters.redis_link import RedisLink
from authz.core.check import KeyRecord, KeyState, Lookup, Take
from authz.service.ports import KeyProjection, TakeReply

Held = Callable[[bytes], Awaitable[KeyRecord | None]]


@dataclass(frozen=True)
class Subject:
    """A projection, and a way to see what it holds for a digest."""

    projection: KeyProjection
    held: Held


@pytest.fixture(params=["memory", "redis"])
async def subject(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Subject]:
    if request.param == "memory":
        memory = MemoryProjection()

        async def remembered(digest: bytes) -> KeyRecord | None:
            return memory.records.get(digest)

        yield Subject(memory, remembered)
        return
    link = RedisLink(redis_url, deadline_s=1, in_flight_max=100, scripts=(CHECK, PUT))
    link.start()
    await link.reached.wait()
    keys = RedisKeys(link, negative_ttl_s=5)

    async def taken(digest: bytes) -> KeyRecord | None:
        answer: asyncio.Future[TakeReply] = asyncio.get_running_loop().create_future()
        keys.take(Lookup(digest, 0, None), DEFAULT, answer.set_result)
        reply = await answer
        return reply.record if isinstance(reply, Take) else None

    yield Subject(keys, taken)
    await link.close()


@pytest.fixture
def digest() -> bytes:
    return os.urandom(32)


async def test_nothing_is_held_until_it_is_put(subject: Subject, digest: bytes) -> None:
    assert await subject.held(digest) is None
    assert await subject.projection.put(digest, record())
    assert await subject.held(digest) == record()


async def test_a_newer_revision_replaces_an_older_one_and_not_the_other_way(subject: Subject, digest: bytes) -> None:
    revoked = record(state=KeyState.REVOKED, revision=3)
    assert await subject.projection.put(digest, record(revision=2))
    assert await subject.projection.put(digest, revoked)
    assert not await subject.projection.put(digest, record(revision=2))
    assert await subject.held(digest) == revoked


async def test_the_same_revision_may_be_written_again(subject: Subject, digest: bytes) -> None:
    for _ in range(2):
        assert await subject.projection.put(digest, record(revision=2))


async def test_that_a_key_is_unknown_gives_way_to_the_key_and_never_replaces_it(
    subject: Subject, digest: bytes
) -> None:
    unknown = KeyRecord(KeyState.UNKNOWN)
    assert await subject.projection.put(digest, unknown)
    assert await subject.held(digest) == unknown
    assert await subject.projection.put(digest, record())
    assert not await subject.projection.put(digest, unknown)
    assert await subject.held(digest) == record()


async def test_a_put_for_another_epoch_is_not_written(subject: Subject, digest: bytes) -> None:
    assert not await subject.projection.put(digest, record(), epoch="another1")
    assert await subject.held(digest) is None
    assert await subject.projection.put(digest, record(), epoch=subject.projection.epoch)
