"""Records and buckets in the real Redis, in all its forms: one atomic call per check, in little memory."""

import asyncio
import os
import time
from binascii import b2a_base64

import pytest
from msgspec.structs import replace
from redis.crc import key_slot
from support.contracts.key_lookups import DEFAULT, account, put, record, start_take, take_many, take_one

from authz.adapters.redis.cluster_keys import IN_CLUSTER
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.records import BUCKET_BYTES, ENDED_TTL_S, KEY_SCRIPTS
from authz.adapters.redis.store import RedisStore
from authz.core.check import Bucket, KeyRecord, KeyState, Take, TakeOutcome
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit

MEMORY = Script(b"return redis.call('MEMORY', 'USAGE', KEYS[1])")
TTL = Script(b"return redis.call('PTTL', KEYS[1])")
VALUE = Script(b"return redis.call('GET', KEYS[1])")
OVERWRITE = Script(b"return redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')")
NO_BUCKET = bytes(BUCKET_BYTES)
FOR_EVER = -1


@pytest.fixture
def digest() -> bytes:
    return os.urandom(32)


def name(digest: bytes) -> bytes:
    return b"k:" + b2a_base64(digest, newline=False)[:43]


def server_link(store: RedisStore, digest: bytes) -> RedisLink:
    """Return the link to the server that has a key."""
    link = store.link if isinstance(store.link, RedisLink) else store.link.owner(key_slot(name(digest)))
    assert link is not None
    return link


def server_keys(store: RedisStore, digest: bytes) -> RedisKeys:
    """Return the projection over that link."""
    if isinstance(store.keys, RedisKeys):
        return store.keys
    return store.keys._keys_at(server_link(store, digest))  # noqa: SLF001 -- a bound nothing else shows


def noting(store: RedisStore, digest: bytes, noted: list[str]) -> RedisKeys:
    """Make another sidecar's projection over the link to the server that has a key; it notes uses."""
    return RedisKeys(
        server_link(store, digest),
        negative_ttl_s=5,
        on_use=noted.append,
        scripts=KEY_SCRIPTS if isinstance(store.link, RedisLink) else IN_CLUSTER,
        cluster=None if isinstance(store.link, RedisLink) else store.link,
    )


async def test_a_key_costs_at_most_four_hundred_bytes(store: RedisStore, digest: bytes) -> None:
    await put(store.keys, digest, record(limit=Limit(120_000, 1234.5678), expires_at_ms=4_102_444_800_000))
    await take_one(store.keys, digest)
    assert await store.link.call(MEMORY, name(digest)) <= 400


async def test_that_a_key_does_not_exist_is_remembered_for_a_short_while(store: RedisStore, digest: bytes) -> None:
    await put(store.keys, digest, KeyRecord(KeyState.UNKNOWN))
    assert 0 < await store.link.call(TTL, name(digest)) <= 5000
    await put(store.keys, digest, record())
    assert await store.link.call(TTL, name(digest)) == FOR_EVER


@pytest.mark.parametrize("state", [KeyState.DISABLED])
async def test_a_bucket_is_there_as_long_as_its_key_may_work_again(
    store: RedisStore, digest: bytes, state: KeyState
) -> None:
    slow = record(limit=Limit(10_000, 0.01))
    await put(store.keys, digest, slow)
    await take_one(store.keys, digest)
    for change in (replace(slow, revision=2, state=state), replace(slow, revision=3)):
        assert await store.link.call(TTL, name(digest)) == FOR_EVER
        await put(store.keys, digest, change)
    bucket = (await take_one(store.keys, digest)).bucket
    assert bucket is not None
    assert round(bucket.remaining) == 10_000 - 2


async def test_a_key_that_has_ended_is_forgotten_after_a_day(store: RedisStore, digest: bytes) -> None:
    now_ms = int(time.time() * 1000)
    soon = record(expires_at_ms=now_ms + 60_000)
    await put(store.keys, digest, soon)
    await take_one(store.keys, digest)
    for revision, end_ms, change in (
        (2, 60_000, soon),
        (3, 0, replace(soon, expires_at_ms=now_ms - 60_000)),
        (4, 0, replace(soon, state=KeyState.REVOKED)),
    ):
        await put(store.keys, digest, replace(change, revision=revision))
        left_ms = await store.link.call(TTL, name(digest)) - ENDED_TTL_S * 1000
        assert end_ms - 5_000 < left_ms <= end_ms + 1_000


async def test_a_key_that_is_no_more_leaves_no_bucket_behind(store: RedisStore, digest: bytes) -> None:
    await put(store.keys, digest, record(limit=Limit(10_000, 0.01)))
    await take_one(store.keys, digest)
    await store.link.call(OVERWRITE, name(digest), NO_BUCKET + b"another1 1 a 0 - -\n")
    await put(store.keys, digest, KeyRecord(KeyState.UNKNOWN))
    assert 0 < await store.link.call(TTL, name(digest)) <= 5000


@pytest.mark.parametrize(
    "header",
    [
        "{epoch} 1 z 0 - -",
        "{epoch} 1 a 0 - -\xff",
        "{epoch} 1 a 0 x 1",
        "{epoch} 1 r 0 x 1",
    ],
)
async def test_a_record_that_cannot_be_read_is_an_outage_of_one_key(
    store: RedisStore, digest: bytes, header: str
) -> None:
    await put(store.keys, digest, record())
    broken = header.format(epoch=server_link(store, digest).epoch).encode("latin-1")
    of = record()
    await store.link.call(OVERWRITE, name(digest), NO_BUCKET + broken + f"\n{of.key_id} {of.account_id}".encode())
    assert isinstance(await start_take(store.keys, digest), StoreUnavailable)


@pytest.mark.parametrize("value", [b"", b"few", bytes(64)])
async def test_what_is_no_record_counts_as_missing_and_is_written_over(
    store: RedisStore, digest: bytes, value: bytes
) -> None:
    await put(store.keys, digest, record())
    await take_one(store.keys, digest)
    await store.link.call(OVERWRITE, name(digest), value)
    assert await start_take(store.keys, digest) is None
    await put(store.keys, digest, record())
    assert (await take_one(store.keys, digest)).outcome is TakeOutcome.GRANTED


async def test_a_foreign_value_in_a_keys_place_is_an_outage_of_one_key(store: RedisStore, digest: bytes) -> None:
    await store.link.call(Script(b"return redis.call('RPUSH', KEYS[1], 'x')"), name(digest))
    assert isinstance(await start_take(store.keys, digest), StoreUnavailable)
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await put(store.keys, digest, record())


async def test_a_record_is_parsed_once_and_the_memory_of_it_is_bounded(
    store: RedisStore, digest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authz.adapters.redis.known._CACHED_MAX", 3)
    await put(store.keys, digest, record())
    first = await take_one(store.keys, digest)
    assert (await take_one(store.keys, digest)).record is first.record
    for number in range(5):
        other = os.urandom(32)
        await put(store.keys, other, replace(record(), key_id=f"key_{number}"))
        await take_one(store.keys, other)
        gone = os.urandom(32)
        await put(store.keys, gone, replace(record(KeyState.REVOKED), key_id=f"key_{number}"))
        await take_one(store.keys, gone)
    cache = server_keys(store, digest)._checks._cache  # noqa: SLF001 -- a bound nothing else shows
    assert len(cache.active) + len(cache._stopped) <= 3  # noqa: SLF001 -- as above
    assert len(cache._key_headers) <= 3  # noqa: SLF001 -- as above
    assert (await take_one(store.keys, digest)).record == first.record


async def test_a_key_that_changes_again_and_again_does_not_fill_the_memory(
    store: RedisStore, digest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authz.adapters.redis.known._CACHED_MAX", 3)
    for revision in range(1, 12):
        await put(store.keys, digest, replace(record(), revision=revision))
        assert (await take_one(store.keys, digest)).record.revision == revision
    assert len(server_keys(store, digest)._checks._cache._key_headers) <= 3  # noqa: SLF001 -- a bound nothing else shows


async def test_of_a_remembered_key_only_the_header_is_read(store: RedisStore, digest: bytes) -> None:
    await put(store.keys, digest, record())
    first = await take_one(store.keys, digest)
    bucket_and_header, _, _ = (await store.link.call(VALUE, name(digest))).rpartition(b"\n")
    await store.link.call(OVERWRITE, name(digest), bucket_and_header + b"\nkey_another acct_another")
    second = await take_one(store.keys, digest)
    assert second.record is first.record
    assert second.bucket is not None
    assert second.bucket.remaining == pytest.approx(DEFAULT.capacity - 2, abs=1)
    await store.keys.put_account(account("acct_another"))
    other = noting(store, digest, [])  # another sidecar's cache
    assert (await take_one(other, digest)).record.key_id == "key_another"


async def test_whatever_changes_a_remembered_key_is_effective_at_once(store: RedisStore, digest: bytes) -> None:
    await put(store.keys, digest, record())
    assert (await take_one(store.keys, digest)).outcome is TakeOutcome.GRANTED
    await put(store.keys, digest, record(revision=2, limit=Limit(1, 0.001)))
    assert (await take_one(store.keys, digest)).bucket == Bucket.of(Limit(1, 0.001), 0)
    assert (await take_one(store.keys, digest)).outcome is TakeOutcome.LIMITED
    await put(store.keys, digest, replace(record(revision=3), scopes=frozenset({"logs:read"})))
    assert (await take_one(store.keys, digest)).record.scopes == {"logs:read"}
    soon_ms = int(time.time() * 1000) + 100
    await put(store.keys, digest, record(revision=4, expires_at_ms=soon_ms))
    assert (await take_one(store.keys, digest)).record.expires_at_ms == soon_ms
    await asyncio.sleep(0.15)
    expired = await take_one(store.keys, digest)
    assert (expired.outcome, expired.record.revision, expired.bucket) == (TakeOutcome.EXPIRED, 4, None)
    await put(store.keys, digest, record(KeyState.REVOKED, revision=5))
    assert (await take_one(store.keys, digest)).outcome is TakeOutcome.REVOKED


async def test_another_default_limit_applies_at_once(store: RedisStore, digest: bytes) -> None:
    await put(store.keys, digest, record())
    await take_one(store.keys, digest)
    smaller = await take_one(store.keys, digest, default=Limit(10, 1))
    assert smaller.bucket is not None
    assert (smaller.bucket.limit, round(smaller.bucket.remaining)) == (Limit(10, 1), 9)


async def test_keys_looked_up_together_are_answered_in_order(store: RedisStore) -> None:
    digests = [os.urandom(32) for _ in range(40)]
    for number, of_key in enumerate(digests[:30]):
        state = KeyState.REVOKED if number % 3 == 0 else KeyState.ACTIVE
        await put(store.keys, of_key, replace(record(state), key_id=f"key_{number}"))
    for _ in range(2):
        replies = await take_many(store.keys, digests)
        assert replies[30:] == [None] * 10
        assert [reply.record.key_id for reply in replies[:30] if isinstance(reply, Take)] == [
            f"key_{number}" for number in range(30)
        ]
        assert [isinstance(reply, Take) and reply.outcome is TakeOutcome.REVOKED for reply in replies[:6]] == [
            True,
            False,
            False,
        ] * 2


async def test_a_use_is_worth_a_note_once_in_half_a_minute_whichever_sidecar_sees_it(
    store: RedisStore, digest: bytes
) -> None:
    noted: list[str] = []
    sidecars = [noting(store, digest, noted) for _ in range(2)]
    await put(store.keys, digest, record(limit=Limit(5, 0.001)))
    outcomes = [(await take_one(sidecars[number % 2], digest)).outcome for number in range(20)]
    assert outcomes == [TakeOutcome.GRANTED] * 5 + [TakeOutcome.LIMITED] * 15
    assert noted[0] == record().key_id
    assert len(noted) <= 2  # half a minute may have ended meanwhile


async def test_a_key_that_opens_nothing_is_not_used(store: RedisStore, digest: bytes) -> None:
    noted: list[str] = []
    keys = noting(store, digest, noted)
    for revision, state in enumerate((KeyState.DISABLED, KeyState.REVOKED), start=1):
        await put(store.keys, digest, record(state, revision))
        await take_one(keys, digest)
    await put(store.keys, digest, record(revision=4, expires_at_ms=1))
    await take_one(keys, digest)
    assert noted == []


async def test_scripts_that_redis_forgot_charge_once(store: RedisStore, digest: bytes) -> None:
    await put(store.keys, digest, record(limit=Limit(100, 0.001)))
    await server_link(store, digest).ask("SCRIPT", "FLUSH")
    takes = await asyncio.gather(*(take_one(store.keys, digest) for _ in range(30)))
    assert sorted(round(take.bucket.remaining) for take in takes if take.bucket) == [*range(70, 100)]


async def test_a_script_flushed_during_a_batch_charges_each_key_once(store: RedisStore, digest: bytes) -> None:
    await put(store.keys, digest, record(limit=Limit(100, 0.001)))
    before, _, behind = await asyncio.gather(
        take_many(store.keys, [digest] * 10),
        server_link(store, digest).ask("SCRIPT", "FLUSH"),
        take_many(store.keys, [digest] * 30),
    )
    replies = before + behind
    left = [round(reply.bucket.remaining) for reply in replies if isinstance(reply, Take) and reply.bucket]
    assert sorted(left) == [*range(60, 100)]


async def test_a_state_of_the_account_in_a_keys_record_counts_as_missing(store: RedisStore, digest: bytes) -> None:
    """Former versions wrote it there; whoever reinstates now writes the account's record alone."""
    await put(store.keys, digest, record())
    epoch = server_link(store, digest).epoch
    former = f"{epoch} 3 s 0 - -\n{record().key_id} {record().account_id} servers:read"
    await store.link.call(OVERWRITE, name(digest), NO_BUCKET + former.encode())
    assert await start_take(store.keys, digest) is None
    assert await put(store.keys, digest, record(revision=3))
    assert (await take_one(store.keys, digest)).outcome is TakeOutcome.GRANTED
