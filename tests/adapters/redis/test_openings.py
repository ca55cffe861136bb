"""A stream's check in the real Redis: its lease is taken in the same call where the key is remembered, or apart."""

import os

import pytest
from msgspec.structs import replace
from support.builders import KEY, LOGS, policy, request
from support.contracts.key_lookups import DEFAULT, put, record, take_lookups, take_one
from support.contracts.redis_commands import send as command

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.leases import RedisLeases
from authz.adapters.redis.records import OPENING
from authz.adapters.redis.store import RedisStore
from authz.core.check import KeyRecord, KeyState, Lookup, Take, TakeOutcome
from authz.core.decision import plan
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit
from authz.core.policy.route import Access, AccountBinding, BindingLocation, Route
from authz.core.streams import AcquireOutcome, Acquisition, Opening
from authz.service.ports import KeyProjection

ROUTE = Route("GET", "/v1/servers/{id}/logs/stream", Access.SCOPE, "servers:read", stream=LOGS.name)
ELSEWHERE = Route("GET", "/v1/nodes/{id}/logs", Access.SCOPE, "nodes:read", stream=LOGS.name)
BOUND = Route(
    "GET",
    "/v1/bound/logs",
    Access.SCOPE,
    "servers:read",
    stream=LOGS.name,
    accounts=(AccountBinding(BindingLocation.QUERY, "account"),),
    account_required=True,
)
BREAK = Script(b"return redis.call('SET', KEYS[1], 'no hash')")


@pytest.fixture
def digest() -> bytes:
    return os.urandom(32)


@pytest.fixture
def key() -> KeyRecord:
    return replace(record(), account_id=f"acct_{os.urandom(6).hex()}")


def lookup(digest: bytes, request_id: str = "1") -> Lookup:
    return Lookup(digest, 1, ROUTE, opening=Opening(request_id, LOGS, 15))


async def acquired(keys: KeyProjection, start_take: Lookup) -> tuple[TakeOutcome, Acquisition | None]:
    (take,) = await take_lookups(keys, [start_take])
    assert isinstance(take, Take)
    return take.outcome, take.acquired


def on_one_server(store: RedisStore) -> bool:
    return isinstance(store.link, RedisLink)


async def test_a_remembered_key_takes_a_token_and_a_slot_in_one_call(
    store: RedisStore, digest: bytes, key: KeyRecord
) -> None:
    await put(store.keys, digest, key)
    # Whose stream it will be is not known yet.
    assert await acquired(store.keys, lookup(digest)) == (TakeOutcome.GRANTED, None)
    answers = [await acquired(store.keys, lookup(digest, str(number))) for number in (1, 2, 2, 3, 4)]
    streams = await RedisLeases(store.link).streams(key.account_id, LOGS.name)
    if not on_one_server(store):  # what is kept by account is at another node
        assert answers == [(TakeOutcome.GRANTED, None)] * 5
        assert streams == []
        return
    granted = [Acquisition(AcquireOutcome.GRANTED, count, count) for count in (1, 2, 2, 3)]
    full = Acquisition(AcquireOutcome.KEY_FULL, 3, 3)
    assert answers == [(TakeOutcome.GRANTED, acquisition) for acquisition in (*granted, full)]
    assert {it.lease.lease_id for it in streams} == {"1", "2", "3"}
    assert {it.lease.key_id for it in streams} == {key.key_id}
    last = (await take_one(store.keys, digest)).bucket
    assert last is not None
    assert last.remaining == pytest.approx(DEFAULT.capacity - 7, abs=1)


@pytest.mark.parametrize("target", ["/v1/nodes/n1/logs", "/v1/bound/logs", "/v1/bound/logs?account=acct_other"])
async def test_what_is_refused_takes_no_slot(store: RedisStore, digest: bytes, key: KeyRecord, target: str) -> None:
    await put(store.keys, digest, key)
    await take_one(store.keys, digest)
    planned = plan(policy(ELSEWHERE, BOUND), request("GET", target, KEY))
    assert isinstance(planned, Lookup)
    refused = replace(planned, digest=digest, opening=Opening("1", LOGS, 15))
    assert await acquired(store.keys, refused) == (TakeOutcome.GRANTED, None)
    assert await RedisLeases(store.link).streams(key.account_id, LOGS.name) == []


async def test_a_key_that_has_changed_or_has_no_token_takes_no_slot(
    store: RedisStore, digest: bytes, key: KeyRecord
) -> None:
    await put(store.keys, digest, key)
    await take_one(store.keys, digest)
    await put(store.keys, digest, replace(key, revision=2, limit=Limit(1, 0.001)))
    assert await acquired(store.keys, lookup(digest)) == (TakeOutcome.GRANTED, None)
    assert await acquired(store.keys, lookup(digest)) == (TakeOutcome.LIMITED, None)
    await put(store.keys, digest, replace(key, revision=3, state=KeyState.REVOKED))
    assert await acquired(store.keys, lookup(digest)) == (TakeOutcome.REVOKED, None)
    assert await RedisLeases(store.link).streams(key.account_id, LOGS.name) == []


async def test_streams_and_ordinary_checks_come_together(store: RedisStore, digest: bytes, key: KeyRecord) -> None:
    await put(store.keys, digest, key)
    await take_one(store.keys, digest)
    stream, plain, other = lookup(digest), Lookup(digest, 1, None), lookup(digest, "2")
    takes = await take_lookups(store.keys, [stream, plain, other])
    counts = [take.acquired and take.acquired.of_key for take in takes if isinstance(take, Take)]
    assert counts == ([1, None, 2] if on_one_server(store) else [None] * 3)


async def test_a_script_that_was_forgotten_is_given_again(own_link: RedisLink, digest: bytes, key: KeyRecord) -> None:
    keys = RedisKeys(own_link, negative_ttl_s=5)
    await put(keys, digest, key)
    await take_one(keys, digest)
    for number in (1, 2):
        assert await command(own_link, "SCRIPT", "FLUSH") == b"OK"
        _, acquisition = await acquired(keys, lookup(digest, str(number)))
        assert acquisition == Acquisition(AcquireOutcome.GRANTED, number, number)
    assert await command(own_link, "SCRIPT", "EXISTS", OPENING.sha) == [1]


async def test_leases_that_cannot_be_read_are_an_outage_of_the_stream(
    link: RedisLink, digest: bytes, key: KeyRecord
) -> None:
    keys = RedisKeys(link, negative_ttl_s=5)
    await put(keys, digest, key)
    await take_one(keys, digest)
    await link.call(BREAK, f"l:{{{key.account_id}}}:{LOGS.name}".encode())
    (reply,) = await take_lookups(keys, [lookup(digest)])
    assert isinstance(reply, StoreUnavailable)
    assert isinstance((await take_lookups(keys, [Lookup(digest, 1, None)]))[0], Take)


async def test_an_answer_about_leases_that_cannot_be_read_is_an_outage_of_the_stream(
    link: RedisLink, digest: bytes, key: KeyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = RedisKeys(link, negative_ttl_s=5)
    await put(keys, digest, key)
    await take_one(keys, digest)

    def unreadable(_reply: object) -> Acquisition:
        raise ValueError("no outcome")

    monkeypatch.setattr("authz.adapters.redis.checks.acquisition", unreadable)
    assert isinstance((await take_lookups(keys, [lookup(digest)]))[0], StoreUnavailable)
