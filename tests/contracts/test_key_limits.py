"""What every projection promises where a key has several buckets: all of them or none, by plan, row and account."""

import asyncio
import os
from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from support.contracts.key_lookups import account, record
from support.contracts.key_projections import Subject

from authz.core.check import Bucket, Lookup, Take, TakeOutcome
from authz.core.limits import KeyLimits, Limit, NamedLimit
from authz.core.policy.route import Access, Route
from authz.service.ports import TakeReply

SLOW = 0.001
USUAL = Limit(10, SLOW)
DAILY, SEARCH = NamedLimit("daily", Limit(6, SLOW)), NamedLimit("search", Limit(2, SLOW))
GOLD = (NamedLimit("gold", Limit(30, SLOW)), NamedLimit("gold-2", Limit(25, SLOW)))
LIMITS = KeyLimits((NamedLimit("default", USUAL), DAILY), {"gold": GOLD}, 30 / SLOW)
ROWS_ONLY = KeyLimits((NamedLimit("default", USUAL),), {}, 30 / SLOW)
ROW = Route("GET", "/v1/search", Access.ANY, limits=(SEARCH,))
GRANTED, LIMITED = TakeOutcome.GRANTED, TakeOutcome.LIMITED


async def key_of(keys: Subject, **fields: object) -> bytes:
    digest = os.urandom(32)
    kept = replace(record(), account_id=f"acct_{os.urandom(8).hex()}", **fields)
    await keys.put_account(account(kept.account_id))
    assert await keys.put(digest, kept)
    return digest


async def taken(
    keys: Subject, lookups: Sequence[Lookup], limits: KeyLimits | None = LIMITS, shared: Limit | None = None
) -> list[TakeReply]:
    replies: dict[int, TakeReply] = {}
    complete = asyncio.Event()

    def receive(places: Sequence[int], found: Sequence[TakeReply]) -> None:
        replies.update(zip(places, found, strict=True))
        if len(replies) == len(lookups):
            complete.set()

    keys.take(lookups, USUAL, receive, account=shared, limits=limits)
    await complete.wait()
    return [replies[index] for index in range(len(lookups))]


def shown(reply: TakeReply) -> tuple[TakeOutcome, str, int]:
    assert isinstance(reply, Take)
    assert reply.bucket is not None
    quotas = reply.bucket.limits.quotas
    return reply.outcome, "default" if quotas is None else quotas.name, round(reply.bucket.remaining)


async def test_every_bucket_is_charged_and_the_emptiest_one_is_shown(keys: Subject) -> None:
    digest = await key_of(keys)
    plain, row = Lookup(digest, 1, None), Lookup(digest, 1, ROW)
    assert shown((await taken(keys, [plain]))[0]) == (GRANTED, "daily", 5)
    assert [shown(it) for it in await taken(keys, [row, row, row])] == [
        (GRANTED, "search", 1),
        (GRANTED, "search", 0),
        (LIMITED, "search", 0),
    ]
    # The refusal took from none of the others.
    assert shown((await taken(keys, [plain]))[0]) == (GRANTED, "daily", 2)


async def test_the_limits_of_the_plan_replace_the_usual_ones(keys: Subject) -> None:
    digest = await key_of(keys, plan="gold")
    reply = (await taken(keys, [Lookup(digest, 5, ROW), Lookup(digest, 5, None)]))[1]
    assert shown(reply) == (GRANTED, "gold-2", 20)
    assert isinstance(reply, Take)
    assert reply.record.plan == "gold"
    assert isinstance(reply.bucket, Bucket)
    assert reply.bucket.limits.quotas is not None
    assert reply.bucket.limits.quotas.items == GOLD


async def test_an_unknown_plan_has_the_limits_of_a_key_without_one(keys: Subject) -> None:
    digest = await key_of(keys, plan="silver")
    found = await taken(keys, [Lookup(digest, 1, None)] * 7)
    assert sorted(shown(it)[0] for it in found) == [GRANTED] * 6 + [LIMITED]
    # So it is where the policy has no plans at all.
    other = await key_of(keys, plan="silver")
    found = await taken(keys, [Lookup(other, 1, None)] * 11, limits=None)
    assert sorted(shown(it)[0] for it in found) == [GRANTED] * 10 + [LIMITED]


async def test_an_own_limit_replaces_the_first_bucket_only(keys: Subject) -> None:
    digest = await key_of(keys, limit=Limit(3, SLOW))
    assert shown((await taken(keys, [Lookup(digest, 1, None)]))[0]) == (GRANTED, "default", 2)
    of_plan = await key_of(keys, limit=Limit(100, SLOW), plan="gold")
    assert shown((await taken(keys, [Lookup(of_plan, 1, None)]))[0]) == (GRANTED, "gold-2", 24)


async def test_the_account_takes_part_in_all_or_none(keys: Subject) -> None:
    digest = await key_of(keys)
    found = [shown(it) for it in [(await taken(keys, [Lookup(digest, 1, ROW)], shared=Limit(1, SLOW)))[0]] * 1]
    assert found == [(GRANTED, "account", 0)]
    for _ in range(3):
        reply = (await taken(keys, [Lookup(digest, 1, ROW)], shared=Limit(1, SLOW)))[0]
        assert shown(reply) == (LIMITED, "account", 0)
    assert isinstance(reply, Take)
    assert reply.bucket is not None
    assert reply.bucket.limits.quotas is not None
    assert [it.name for it in reply.bucket.limits.quotas.items] == ["default", "daily", "search", "account"]
    # A refund in a cluster follows its reply.
    await asyncio.sleep(0.02)
    assert shown((await taken(keys, [Lookup(digest, 1, ROW)]))[0]) == (GRANTED, "search", 0)


async def test_rows_without_limits_are_as_before_where_rows_only_have_some(keys: Subject) -> None:
    digest = await key_of(keys)
    lookups = [Lookup(digest, 1, None), Lookup(digest, 1, ROW), Lookup(digest, 1, None), Lookup(digest, 1, ROW)]
    for _ in range(2):
        found = await taken(keys, lookups, ROWS_ONLY)
        usual = [it.bucket for it in (found[0], found[2]) if isinstance(it, Take)]
        assert [it is not None and it.limits.quotas for it in usual] == [None, None]
    assert [shown(it)[0] for it in found] == [GRANTED, LIMITED, GRANTED, LIMITED]


@pytest.mark.parametrize("limits", [LIMITS, ROWS_ONLY])
async def test_keys_and_accounts_that_may_not_be_used_take_nothing(keys: Subject, limits: KeyLimits) -> None:
    digest = await key_of(keys)
    row = Lookup(digest, 1, ROW)
    assert shown((await taken(keys, [row], limits))[0])[0] is GRANTED
    for revision, state, outcome in ((2, "d", TakeOutcome.DISABLED), (3, "r", TakeOutcome.REVOKED)):
        assert await keys.put(digest, replace(record(), revision=revision, state=type(record().state)(state)))
        assert [it.outcome for it in await taken(keys, [row, row], limits) if isinstance(it, Take)] == [outcome] * 2
    expired = await key_of(keys, expires_at_ms=1000)
    assert [it.outcome for it in await taken(keys, [Lookup(expired, 1, ROW)], limits) if isinstance(it, Take)] == [
        TakeOutcome.EXPIRED
    ]
    suspended = replace(record(), account_id=f"acct_{os.urandom(8).hex()}")
    digest = os.urandom(32)
    await keys.put(digest, suspended)
    assert await taken(keys, [Lookup(os.urandom(32), 1, ROW)], limits) == [None]
    await keys.put_account(account(suspended.account_id, revision=2, is_suspended=True))
    assert [it.outcome for it in await taken(keys, [Lookup(digest, 1, ROW)], limits) if isinstance(it, Take)] == [
        TakeOutcome.SUSPENDED
    ]


async def test_a_new_plan_applies_to_the_next_check(keys: Subject) -> None:
    digest = await key_of(keys)
    assert shown((await taken(keys, [Lookup(digest, 1, None)]))[0]) == (GRANTED, "daily", 5)
    kept = replace(record(), revision=2, plan="gold")
    await keys.put_account(account(kept.account_id))
    assert await keys.put(digest, kept)
    assert [shown(it) for it in await taken(keys, [Lookup(digest, 1, None)] * 2)][1][1] in {"gold", "gold-2"}


async def test_a_hundred_checks_at_once_are_each_decided_once(keys: Subject) -> None:
    digests = [await key_of(keys, plan="gold" if number % 2 else "") for number in range(20)]
    found = await taken(keys, [Lookup(digest, 1, ROW) for digest in digests * 6])
    granted = [index for index, it in enumerate(found) if shown(it)[0] is GRANTED]
    assert [sum(index % 20 == number for index in granted) for number in range(20)] == [2] * 20
    # Keys whose records differ in the plan only do not share what is cached of their buckets.
    for index, reply in enumerate(found):
        assert isinstance(reply, Take)
        assert reply.bucket is not None
        assert reply.bucket.limits.quotas is not None
        of_key = GOLD if index % 2 else LIMITS.default
        assert reply.bucket.limits.quotas.items == (*of_key, SEARCH)
