"""The device flow over the real Redis: one key for one approval, and no success by guessing."""

import asyncio
from collections import Counter

import pytest
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

from authz.adapters.postgres.pool import Postgres
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.core.accounts import Actor, AuditEvent
from authz.core.device import Approval, GrantStatus, Polled, StartedGrant, shown
from authz.core.errors import KeyLimitReached, Refused, StoreUnavailable, Throttled
from authz.core.keys import digest
from authz.core.throttles import Attempt, Throttle
from authz.service.keys.admin import KeyAdmin

UNLIMITED = {attempt: Throttle(10**9, 0, 60) for attempt in Attempt}
SCOPES = frozenset({"servers:read"})
KEYS_OF = Script(b"return redis.call('HGETALL', KEYS[1])")
FORGET = Script(b"return redis.call('DEL', KEYS[1])")


@pytest.fixture
def unthrottled(postgres: Postgres, link: RedisLink, admin: KeyAdmin) -> PortalUseCases:
    return PortalUseCases(postgres, link, admin, UNLIMITED)


async def an_account(use_cases: PortalUseCases) -> str:
    return (await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())).account_id


async def approved(use_cases: PortalUseCases, scopes: frozenset[str] = SCOPES) -> tuple[StartedGrant, str]:
    started, account_id = await use_cases.device.start(random_address(), "truetick/1.0"), await an_account(use_cases)
    await use_cases.device.approve(shown(started.user_code), Approval(account_id, scopes), "203.0.113.9")
    return started, account_id


async def test_an_approved_device_gets_a_key_with_the_scopes_granted_once(
    use_cases: PortalUseCases, admin: KeyAdmin
) -> None:
    started = await use_cases.device.start("203.0.113.5", "truetick/1.0\x1b[31m")
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.PENDING
    account_id = await an_account(use_cases)
    grant = await use_cases.device.look(shown(started.user_code).lower(), account_id, random_address())
    assert (grant.source_address, grant.client) == ("203.0.113.5", "truetick/1.0[31m")
    await use_cases.device.approve(started.user_code, Approval(account_id, SCOPES), "203.0.113.9")
    polled = await use_cases.device.poll(started.device_code, "203.0.113.5")
    assert polled.status is GrantStatus.APPROVED
    (key,) = await admin.keys(account_id)
    assert key.scopes == SCOPES
    assert key.hint.endswith(polled.api_key[-4:])
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.EXPIRED
    trail = await use_cases.accounts.audit_trail(account_id)
    assert [line.event for line in trail][:2] == ["key_minted_by_device", "device_approved"]


async def test_of_a_hundred_polls_that_come_together_one_gets_a_key(
    unthrottled: PortalUseCases, admin: KeyAdmin
) -> None:
    started, account_id = await approved(unthrottled)
    polls = [unthrottled.device.poll(started.device_code, "203.0.113.5") for _ in range(100)]
    outcomes = await asyncio.gather(*polls)
    assert Counter(outcome.status is GrantStatus.APPROVED for outcome in outcomes)[True] == 1
    assert len([outcome for outcome in outcomes if outcome.api_key]) == 1
    assert len(await admin.keys(account_id)) == 1


async def test_a_refused_device_gets_nothing_and_nobody_decides_again(use_cases: PortalUseCases) -> None:
    started, account_id = await use_cases.device.start(random_address(), ""), await an_account(use_cases)
    await use_cases.device.refuse(started.user_code, account_id, random_address())
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.EXPIRED
    with pytest.raises(Refused, match="not known"):
        await use_cases.device.approve(started.user_code, Approval(account_id, SCOPES), random_address())
    with pytest.raises(Refused, match="not known"):
        await use_cases.device.look(started.user_code, account_id, random_address())
    assert (await use_cases.accounts.audit_trail(account_id))[0].event == "device_refused"


async def test_an_approval_for_nothing_is_refused(use_cases: PortalUseCases) -> None:
    started = await use_cases.device.start(random_address(), "")
    with pytest.raises(Refused, match="at least one scope"):
        await use_cases.device.approve(started.user_code, Approval(await an_account(use_cases), frozenset()), "")


async def test_whoever_knows_only_the_short_code_gets_no_key(use_cases: PortalUseCases) -> None:
    started, _ = await approved(use_cases)
    for guess in (started.user_code, started.user_code + "x" * 43, "", "rubbish", started.device_code + "x"):
        polled = await use_cases.device.poll(guess, random_address())
        assert (polled.status, polled.api_key) == (GrantStatus.EXPIRED, "")
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.APPROVED


async def test_no_secret_is_stored_between_steps(use_cases: PortalUseCases, link: RedisLink) -> None:
    started, _ = await approved(use_cases)
    kept = b" ".join(await link.call(KEYS_OF, b"g:" + started.user_code.encode()))
    assert started.device_code.encode() not in kept
    assert started.device_code[8:].encode() not in kept
    assert b"ttk_" not in kept


async def test_a_full_account_can_make_room_and_the_device_gets_its_key_after_all(
    use_cases: PortalUseCases, admin: KeyAdmin
) -> None:
    started, account_id = await approved(use_cases)
    made = [await use_cases.minting.mint(account_id, "login", Actor("me")) for _ in range(25)]
    with pytest.raises(KeyLimitReached, match="revoke an unused key first"):
        await use_cases.device.poll(started.device_code, random_address())
    await admin.change_key(made[0].key.id, AuditEvent.KEY_REVOKED, Actor("me"))
    polled = await use_cases.device.poll(started.device_code, random_address())
    assert digest(polled.api_key.encode()) != digest(made[0].secret.encode())
    assert polled.status is GrantStatus.APPROVED


async def test_a_store_that_fails_while_the_key_is_made_costs_the_device_nothing(
    use_cases: PortalUseCases, postgres: Postgres
) -> None:
    started, _ = await approved(use_cases)
    await postgres.close()
    with pytest.raises(StoreUnavailable):
        await use_cases.device.poll(started.device_code, random_address())
    await postgres.start()
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.APPROVED


async def test_a_store_that_fails_once_the_key_is_made_keeps_it_from_nobody(
    use_cases: PortalUseCases, admin: KeyAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_code: str, *, is_over: bool) -> None:
        raise StoreUnavailable("redis", f"is over: {is_over}")

    started, account_id = await approved(use_cases)
    monkeypatch.setattr(use_cases.grants, "settle", fail)
    assert (await use_cases.device.poll(started.device_code, random_address())).api_key
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.PENDING
    assert len(await admin.keys(account_id)) == 1


async def test_a_device_of_a_suspended_account_is_refused_at_once(use_cases: PortalUseCases, admin: KeyAdmin) -> None:
    started, account_id = await approved(use_cases)
    await admin.change_account(account_id, AuditEvent.ACCOUNT_SUSPENDED, Actor("operator"))
    assert await use_cases.device.poll(started.device_code, random_address()) == Polled(GrantStatus.EXPIRED)
    await admin.change_account(account_id, AuditEvent.ACCOUNT_REINSTATED, Actor("operator"))
    assert await use_cases.device.poll(started.device_code, random_address()) == Polled(GrantStatus.EXPIRED)
    assert await admin.keys(account_id) == []


async def test_a_suspended_account_approves_no_device_but_may_refuse_one(
    use_cases: PortalUseCases, admin: KeyAdmin
) -> None:
    started, account_id = await use_cases.device.start(random_address(), ""), await an_account(use_cases)
    await admin.change_account(account_id, AuditEvent.ACCOUNT_SUSPENDED, Actor("operator"))
    with pytest.raises(Refused, match="this account is suspended"):
        await use_cases.device.approve(started.user_code, Approval(account_id, SCOPES), random_address())
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.PENDING
    await use_cases.device.refuse(started.user_code, account_id, random_address())
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.EXPIRED


async def test_a_grant_that_ended_is_expired(use_cases: PortalUseCases, link: RedisLink) -> None:
    started, _ = await approved(use_cases)
    await link.call(FORGET, b"g:" + started.user_code.encode())
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.EXPIRED


async def test_guessing_codes_comes_to_an_end_for_an_account_and_for_an_address(use_cases: PortalUseCases) -> None:
    account_id, address = await an_account(use_cases), random_address()
    for _ in range(10):
        with pytest.raises(Refused, match="not known"):
            await use_cases.device.look("BCDF-2345", account_id, random_address())
    with pytest.raises(Throttled) as raised:
        await use_cases.device.look("BCDF-2345", account_id, random_address())
    assert raised.value.retry_after_s == 600
    for number in range(30):
        with pytest.raises(Refused, match="not known"):
            await use_cases.device.look("BCDF-2345", f"acct_{address}_{number}", address)
    with pytest.raises(Throttled):
        await use_cases.device.look("BCDF-2345", f"acct_{address}", address)


async def test_a_code_that_is_looked_at_too_often_is_gone(use_cases: PortalUseCases) -> None:
    started, account_id = await use_cases.device.start(random_address(), ""), await an_account(use_cases)
    for _ in range(10):
        await use_cases.device.look(started.user_code, account_id, random_address())
    with pytest.raises(Refused, match="not known"):
        await use_cases.device.look(started.user_code, account_id, random_address())
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.EXPIRED


async def test_two_grants_never_share_a_code(use_cases: PortalUseCases) -> None:
    same = iter([bytes(32), bytes(16), bytes(32), bytes(16), b"\x01" * 16])
    use_cases.device._entropy = lambda _count: next(same)  # noqa: SLF001 -- the second comes upon the first one's code
    first = await use_cases.device.start(random_address(), "")
    second = await use_cases.device.start(random_address(), "")
    assert first.user_code != second.user_code


async def test_starts_and_polls_are_throttled_in_the_contracts_words(use_cases: PortalUseCases) -> None:
    address = random_address()
    for _ in range(10):
        started = await use_cases.device.start(address, "")
    with pytest.raises(Throttled) as raised:
        await use_cases.device.start(address, "")
    assert (str(raised.value), raised.value.retry_after_s) == ("too many requests", 60)
    for _ in range(8):
        await use_cases.device.poll(started.device_code, random_address())
    with pytest.raises(Throttled) as raised:
        await use_cases.device.poll(started.device_code, random_address())
    assert (str(raised.value), raised.value.retry_after_s) == ("slow down", 5)
