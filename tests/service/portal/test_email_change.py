"""A change of the e-mail address, over the real stores: nothing changes without both addresses."""

import asyncio
from datetime import timedelta

import pytest
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email, utc_now

from authz.core.errors import EmailTaken, Refused, Throttled, WrongCredentials
from authz.core.owners import Owner


async def an_owner(use_cases: PortalUseCases) -> Owner:
    return await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())


async def started(use_cases: PortalUseCases, owner: Owner, email: str) -> tuple[str, str]:
    """Start a change; return the codes for the old and the new address."""
    await use_cases.email_changes.start(owner, email, PASSWORD, random_address())
    await use_cases.supervisor.settled()
    return use_cases.mail.code(owner.email), use_cases.mail.code(email)


@pytest.mark.parametrize("first", [0, 1])
async def test_an_address_changes_when_both_have_confirmed_it(use_cases: PortalUseCases, first: int) -> None:
    owner, new = await an_owner(use_cases), random_email()
    codes = await started(use_cases, owner, new)
    assert not (await use_cases.email_changes.confirm(codes[first], "203.0.113.9")).is_done
    assert not (await use_cases.email_changes.confirm(codes[first], "203.0.113.9")).is_done  # the same one again
    assert (await use_cases.ledger.owner(owner.account_id)) == owner
    change = await use_cases.email_changes.change(codes[1 - first])
    assert (change.account_id, change.old_email, change.new_email) == (owner.account_id, owner.email, new)
    assert (await use_cases.email_changes.confirm(codes[1 - first], "203.0.113.9")).is_done
    changed = await use_cases.login.authenticate(new, PASSWORD, random_address())
    assert (changed.account_id, changed.email_verified_at is None) == (owner.account_id, False)
    with pytest.raises(WrongCredentials):
        await use_cases.login.authenticate(owner.email, PASSWORD, random_address())
    await use_cases.supervisor.settled()
    for email in (owner.email, new):
        assert use_cases.mail.subjects(email)[-1] == "The e-mail address of your account was changed"
    contact = await use_cases.accounts.contact(owner.account_id)
    assert (contact.email, contact.is_verified) == (new, True)
    assert [line.event for line in await use_cases.accounts.audit_trail(owner.account_id)][:2] == [
        "email_changed",
        "email_change_started",
    ]
    for code in codes:
        with pytest.raises(Refused, match="used, replaced or has expired"):
            await use_cases.email_changes.confirm(code, "")


async def test_a_change_voids_reset_links_to_the_old_address(use_cases: PortalUseCases) -> None:
    owner, new = await an_owner(use_cases), random_email()
    await use_cases.password_reset.request(owner.email, random_address())
    await use_cases.supervisor.settled()
    reset = use_cases.mail.code(owner.email)
    for code in await started(use_cases, owner, new):
        await use_cases.email_changes.confirm(code, "")
    with pytest.raises(Refused):
        await use_cases.password_reset.take(reset, "another horse battery", "")


async def test_a_change_needs_the_password_and_another_address(use_cases: PortalUseCases) -> None:
    owner = await an_owner(use_cases)
    with pytest.raises(WrongCredentials):
        await use_cases.email_changes.start(owner, random_email(), "wrong", random_address())
    for email, words in ((owner.email.upper(), "present address"), ("ada", "invalid email")):
        with pytest.raises(Refused, match=words):
            await use_cases.email_changes.start(owner, email, PASSWORD, random_address())
    await use_cases.email_changes.start(owner, random_email(), PASSWORD, random_address())
    with pytest.raises(Throttled):
        await use_cases.email_changes.start(owner, random_email(), PASSWORD, random_address())


async def test_another_change_a_new_password_or_time_voids_the_codes(use_cases: PortalUseCases) -> None:
    owner = await an_owner(use_cases)
    first = await started(use_cases, owner, random_email())
    second = await started(use_cases, owner, random_email())
    late = use_cases.email_changes_at(lambda: utc_now() + timedelta(hours=3))
    for changes, code in ((use_cases.email_changes, first[0]), (use_cases.email_changes, first[1]), (late, second[0])):
        with pytest.raises(Refused):
            await changes.confirm(code, "")
    await use_cases.accounts.change_password(owner, PASSWORD, "another horse battery", random_address())
    with pytest.raises(Refused):
        await use_cases.email_changes.confirm(second[0], "")


async def test_an_address_goes_to_one_of_many_owners_who_prove_it(use_cases: PortalUseCases) -> None:
    email, taken = random_email(), await an_owner(use_cases)
    last: list[str] = []
    for _ in range(4):
        old, new = await started(use_cases, await an_owner(use_cases), email)
        await use_cases.email_changes.confirm(old, "")
        last.append(new)
    outcomes = await asyncio.gather(
        *(use_cases.email_changes.confirm(code, "") for code in last), return_exceptions=True
    )
    assert sum(isinstance(outcome, EmailTaken) for outcome in outcomes) == 3
    old, new = await started(use_cases, await an_owner(use_cases), taken.email)
    await use_cases.email_changes.confirm(old, "")
    with pytest.raises(EmailTaken):
        await use_cases.email_changes.confirm(new, "")
    assert await use_cases.ledger.owner_of_email(taken.email) == taken
