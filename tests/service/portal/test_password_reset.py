"""A forgotten password, over the real stores: one link, one use, one answer for everybody."""

import asyncio
from datetime import timedelta

import pytest
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email, utc_now

from authz.core.errors import Refused, Throttled, WrongCredentials
from authz.core.owners import Owner

NEW = "another horse battery"


async def an_owner(use_cases: PortalUseCases) -> Owner:
    return await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())


async def mailed_code(use_cases: PortalUseCases, email: str) -> str:
    await use_cases.password_reset.request(email, random_address())
    await use_cases.supervisor.settled()
    return use_cases.mail.code(email.lower())


async def test_a_link_sets_a_password_once_and_ends_every_session(use_cases: PortalUseCases) -> None:
    owner = await an_owner(use_cases)
    sessions = [await use_cases.sessions.open(owner) for _ in range(3)]
    code = await mailed_code(use_cases, owner.email.upper())
    assert (await use_cases.password_reset.owner(code)).account_id == owner.account_id
    changed = await use_cases.password_reset.take(code, NEW, "203.0.113.9")
    assert changed.generation == owner.generation + 1
    assert changed.email_verified_at is not None
    assert [await use_cases.sessions.owner(secret) for secret in sessions] == [None] * 3
    with pytest.raises(WrongCredentials):
        await use_cases.login.authenticate(owner.email, PASSWORD, random_address())
    assert await use_cases.login.authenticate(owner.email, NEW, random_address()) == changed
    for again in (code, "", "x", "\ud800"):
        with pytest.raises(Refused, match="used or has expired"):
            await use_cases.password_reset.take(again, PASSWORD, "203.0.113.9")
    await use_cases.supervisor.settled()
    assert use_cases.mail.subjects(owner.email)[-1] == "The password of your account was changed"
    trail = [line.event for line in await use_cases.accounts.audit_trail(owner.account_id)]
    assert trail == ["password_reset", "password_reset_mailed", "account_created"]


async def test_of_many_uses_of_an_owners_links_one_succeeds(use_cases: PortalUseCases) -> None:
    owner = await an_owner(use_cases)
    codes = [await mailed_code(use_cases, owner.email) for _ in range(3)]
    uses = [use_cases.password_reset.take(code, f"{NEW} {index}", "") for index, code in enumerate(codes * 4)]
    outcomes = await asyncio.gather(*uses, return_exceptions=True)
    assert sum(isinstance(outcome, Owner) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 11


async def test_a_weak_password_does_not_use_up_the_link(use_cases: PortalUseCases) -> None:
    owner = await an_owner(use_cases)
    code = await mailed_code(use_cases, owner.email)
    for weak in ("short", "x" * 5000, owner.email, "Password1234"):
        with pytest.raises(Refused, match="password"):
            await use_cases.password_reset.take(code, weak, "")
    assert await use_cases.password_reset.take(code, NEW, "")


async def test_a_link_ends_after_half_an_hour(use_cases: PortalUseCases) -> None:
    owner = await an_owner(use_cases)
    code = await mailed_code(use_cases, owner.email)
    for minutes, is_valid in ((29, True), (31, False)):
        later = use_cases.resets_at(lambda minutes=minutes: utc_now() + timedelta(minutes=minutes))  # type: ignore[misc]
        if is_valid:
            assert await later.owner(code)
        else:
            with pytest.raises(Refused):
                await later.take(code, NEW, "")
    await use_cases.links.delete_expired(utc_now() + timedelta(minutes=31))
    with pytest.raises(Refused):
        await use_cases.password_reset.owner(code)


async def test_a_changed_password_voids_the_links_of_before(use_cases: PortalUseCases) -> None:
    owner = await an_owner(use_cases)
    code = await mailed_code(use_cases, owner.email)
    await use_cases.accounts.change_password(owner, PASSWORD, NEW, random_address())
    with pytest.raises(Refused):
        await use_cases.password_reset.take(code, PASSWORD, "")


async def test_who_has_no_account_gets_no_mail_and_the_same_answer(
    use_cases: PortalUseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await an_owner(use_cases)
    looked: list[str] = []
    add_reset = use_cases.links.add_reset

    async def noted(email: str, *rest: object) -> bool:
        looked.append(email)
        return await add_reset(email, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(use_cases.links, "add_reset", noted)
    for email in (owner.email, stranger := random_email()):
        looked.clear()
        await use_cases.password_reset.request(email, random_address())
        # The response is complete before anything depends on the owner.
        assert looked == []
        await use_cases.supervisor.settled()
        assert looked == [email]
    for invalid in ("", "ada", "a" * 5000):
        await use_cases.password_reset.request(invalid, random_address())
    await use_cases.supervisor.settled()
    assert [to for to, _, _ in use_cases.mail.mails] == [owner.email]
    assert stranger not in str(use_cases.mail.mails)


@pytest.mark.parametrize("has_owner", [True, False])
async def test_requests_are_counted_by_address_and_by_subject(use_cases: PortalUseCases, *, has_owner: bool) -> None:
    email, address = (await an_owner(use_cases)).email if has_owner else random_email(), random_address()
    for _ in range(3):
        await use_cases.password_reset.request(email, random_address())
    with pytest.raises(Throttled, match="too many mails"):
        await use_cases.password_reset.request(email.upper(), random_address())
    for _ in range(10):
        await use_cases.password_reset.request(random_email(), address)
    with pytest.raises(Throttled, match="too many mails"):
        await use_cases.password_reset.request(random_email(), address)
    await use_cases.supervisor.settled()
    assert len(use_cases.mail.mails) == (3 if has_owner else 0)


async def test_a_stranger_who_requests_links_takes_none_from_the_owner(use_cases: PortalUseCases) -> None:
    owner = await an_owner(use_cases)
    code = await mailed_code(use_cases, owner.email)
    for _ in range(2):
        await mailed_code(use_cases, owner.email)
    assert await use_cases.password_reset.take(code, NEW, "")


async def test_without_mail_nothing_is_promised(use_cases: PortalUseCases) -> None:
    use_cases.mail.is_set_up = False
    with pytest.raises(Refused, match="no mail is sent"):
        await use_cases.password_reset.request(random_email(), random_address())
