"""Changes of keys are throttled per account, and replacing keys gives an account no more requests."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from support.builders import policy
from support.contracts.key_lookups import DEFAULT
from support.contracts.key_projections import connected_store
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

from authz.adapters.postgres.keys import PostgresKeys
from authz.core.accounts import Actor
from authz.core.check import Lookup, Take, TakeOutcome
from authz.core.device import Approval, GrantStatus
from authz.core.errors import Throttled
from authz.core.keys import digest
from authz.core.limits import Limit
from authz.core.throttles import DEFAULT_THROTTLES, Attempt
from authz.service.keys.admin import KeyAdmin, KeyRequest
from authz.service.ports import KeyProjection, TakeReply

SCOPES = frozenset({"servers:read"})
ME = Actor("operator:ada")
CREATIONS = DEFAULT_THROTTLES[Attempt.KEY_CREATION]
CHANGES = DEFAULT_THROTTLES[Attempt.KEY_CHANGE]
ROTATIONS_AN_HOUR = CREATIONS.per_subject * 3600 // CREATIONS.wait_s
ACCOUNT = Limit(25 * DEFAULT.capacity, 25 * DEFAULT.refill_per_s)


async def an_account(use_cases: PortalUseCases) -> str:
    return (await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())).account_id


async def test_new_keys_are_throttled_per_account_and_not_for_operators(
    use_cases: PortalUseCases, admin: KeyAdmin
) -> None:
    keys, account_id, other = use_cases.services().keys, await an_account(use_cases), await an_account(use_cases)
    key_id = (await keys.create(account_id, "key", SCOPES, None, random_address())).key.id
    for _ in range(CREATIONS.per_subject - 1):
        key_id = (await keys.rotate(account_id, key_id, 0, random_address())).made.key.id
    for refused in (
        keys.rotate(account_id, key_id, 0, random_address()),
        keys.create(account_id, "key", SCOPES, None, random_address()),
        use_cases.minting.mint(account_id, "login", Actor("owner", random_address())),
    ):
        with pytest.raises(Throttled, match="too many new keys, try again later") as raised:
            await refused
        assert raised.value.retry_after_s == CREATIONS.wait_s
    # Ending a key is another matter, and so are other accounts and operators.
    await keys.disable(account_id, key_id, random_address())
    await keys.create(other, "key", SCOPES, None, random_address())
    await admin.create_key(KeyRequest(account_id, "key", SCOPES), ME)


async def test_changes_of_keys_are_throttled_beyond_what_an_account_has_to_revoke(use_cases: PortalUseCases) -> None:
    keys, account_id = use_cases.services().keys, await an_account(use_cases)
    key_id = (await keys.create(account_id, "key", SCOPES, None, random_address())).key.id
    assert CHANGES.per_subject > 2 * policy().keys.active_max
    for number in range(CHANGES.per_subject):
        await (keys.enable if number % 2 else keys.disable)(account_id, key_id, random_address())
    for refused in (keys.disable, keys.enable, keys.revoke):
        with pytest.raises(Throttled, match="too many key changes, try again later"):
            await refused(account_id, key_id, random_address())


async def test_a_device_whose_key_is_throttled_gets_it_later(use_cases: PortalUseCases) -> None:
    keys, account_id = use_cases.services().keys, await an_account(use_cases)
    started = await use_cases.device.start(random_address(), "truetick/1.0")
    await use_cases.device.approve(started.user_code, Approval(account_id, SCOPES), random_address())
    key_id = (await keys.create(account_id, "key", SCOPES, None, random_address())).key.id
    for _ in range(CREATIONS.per_subject - 1):
        key_id = (await keys.rotate(account_id, key_id, 0, random_address())).made.key.id
    with pytest.raises(Throttled):
        await use_cases.device.poll(started.device_code, random_address())
    await use_cases.gate.forgive(Attempt.KEY_CREATION, subject=account_id)  # time passes
    assert (await use_cases.device.poll(started.device_code, random_address())).status is GrantStatus.APPROVED


def drained(keys: KeyProjection, key: bytes, count: int, granted: list[int]) -> None:
    def taken(_places: Sequence[int], replies: Sequence[TakeReply]) -> None:
        granted.append(sum(isinstance(it, Take) and it.outcome is TakeOutcome.GRANTED for it in replies))

    keys.take([Lookup(key, 1, None)] * count, DEFAULT, taken, account=ACCOUNT)


@pytest.mark.timeout(60)
async def test_an_hours_rotations_at_full_speed_admit_no_more_than_the_accounts_bucket(
    ledger: PostgresKeys, redis_url: str
) -> None:
    async with connected_store(redis_url) as store:
        admin = KeyAdmin(ledger, store.keys, policy(), entropy=os.urandom, now=lambda: datetime.now(UTC))
        account_id = (await admin.create_account("Ada", None, ME)).id
        made = await admin.create_key(KeyRequest(account_id, "key", SCOPES), ME)
        granted: list[int] = []
        started_s = time.monotonic()
        for _ in range(ROTATIONS_AN_HOUR):
            drained(store.keys, digest(made.secret.encode()), DEFAULT.capacity + 30, granted)
            made = (await admin.rotate(made.key.id, 0, ME)).made
        drained(store.keys, digest(made.secret.encode()), 1, granted)
        while len(granted) <= ROTATIONS_AN_HOUR:
            await admin.key(made.key.id)
        took_s = time.monotonic() - started_s
    # Without the account's bucket each of the keys would have had its own.
    assert ROTATIONS_AN_HOUR * DEFAULT.capacity > 2 * ACCOUNT.capacity
    assert ACCOUNT.capacity * 0.95 <= sum(granted) <= ACCOUNT.capacity + ACCOUNT.refill_per_s * took_s
