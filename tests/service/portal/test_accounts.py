"""Signing up and what owners may do with their accounts, over the real Postgres."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

from authz.adapters.email_addresses import normalised_email
from authz.core.accounts import Actor, AuditEvent
from authz.core.errors import EmailTaken, KeyLimitReached, Refused, Throttled, WrongCredentials
from authz.core.owners import Contact
from authz.service.keys.admin import KeyAdmin
from authz.service.portal.codes import Codes
from authz.service.portal.verification import EmailVerification

ME = Actor("owner:me", "203.0.113.9")


async def test_of_many_signups_with_one_address_one_succeeds(use_cases: PortalUseCases) -> None:
    email = random_email()
    signups = [use_cases.accounts.sign_up(email, PASSWORD, random_address()) for _ in range(20)]
    outcomes = await asyncio.gather(*signups, return_exceptions=True)
    assert sum(isinstance(outcome, EmailTaken) for outcome in outcomes) == 19
    assert {str(outcome) for outcome in outcomes if isinstance(outcome, EmailTaken)} == {"email already registered"}


async def test_an_address_signs_up_so_often_and_no_more(use_cases: PortalUseCases) -> None:
    address = random_address()
    for _ in range(10):
        await use_cases.accounts.sign_up(random_email(), PASSWORD, address)
    with pytest.raises(Throttled) as raised:
        await use_cases.accounts.sign_up(random_email(), PASSWORD, address)
    assert (str(raised.value), raised.value.retry_after_s) == ("too many signups, try again later", 3600)


@pytest.mark.parametrize("password", ["short", "Password1234"])
async def test_a_weak_password_opens_no_account(use_cases: PortalUseCases, password: str) -> None:
    email = random_email()
    with pytest.raises(Refused):
        await use_cases.accounts.sign_up(email, password, random_address())
    assert await use_cases.ledger.owner_of_email(email) is None


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" Ada@Example.COM ", "ada@example.com"),
        ("ada+x@bücher.example", "ada+x@bücher.example"),
        ("Ada@BÜCHER.example", "ada@bücher.example"),
    ],
)
def test_an_address_has_one_spelling(typed: str, kept: str) -> None:
    assert normalised_email(typed) == kept


@pytest.mark.parametrize("typed", ["", "ada", "ada@", "@example.com", "a b@example.com", "a@b@c.d", "ada@-x.com\n"])
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(Refused, match="invalid email"):
        normalised_email(typed)


async def test_a_link_proves_an_address_once(use_cases: PortalUseCases) -> None:
    owner = await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())
    await use_cases.verification.send(owner)
    code = use_cases.mail.code()
    assert use_cases.mail.mails[-1][0] == owner.email
    proven = await use_cases.verification.take(code, "203.0.113.9")
    assert proven.email_verified_at is not None
    for wrong in (code, "", "x"):
        with pytest.raises(Refused, match="used, replaced or has expired"):
            await use_cases.verification.take(wrong, "203.0.113.9")


async def test_a_later_link_or_a_day_voids_a_link(use_cases: PortalUseCases) -> None:
    owner = await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())
    await use_cases.verification.send(owner)
    first = use_cases.mail.code()
    await use_cases.verification.send(owner)
    with pytest.raises(Refused):
        await use_cases.verification.take(first, "")
    codes = Codes(bytes, lambda: datetime.now(UTC) + timedelta(hours=25))
    tomorrow = EmailVerification(use_cases.ledger, use_cases.mail, codes, "")
    with pytest.raises(Refused):
        await tomorrow.take(use_cases.mail.code(), "")


async def test_a_new_password_replaces_the_old_and_begins_a_generation(use_cases: PortalUseCases) -> None:
    email = random_email()
    owner = await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    with pytest.raises(WrongCredentials, match="the current password is wrong"):
        await use_cases.accounts.change_password(owner, "wrong", "another horse battery", random_address())
    with pytest.raises(Refused, match="a password is"):
        await use_cases.accounts.change_password(owner, PASSWORD, "short", random_address())
    changed = await use_cases.accounts.change_password(owner, PASSWORD, "another horse battery", random_address())
    assert changed.generation == owner.generation + 1
    with pytest.raises(Refused, match="elsewhere"):
        await use_cases.accounts.change_password(owner, PASSWORD, "a third horse battery", random_address())
    with pytest.raises(WrongCredentials):
        await use_cases.login.authenticate(email, PASSWORD, random_address())
    assert await use_cases.login.authenticate(email, "another horse battery", random_address()) == changed


async def test_a_minted_key_holds_every_scope_and_counts_like_any_other(
    use_cases: PortalUseCases, admin: KeyAdmin
) -> None:
    owner = await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())
    made = await use_cases.minting.mint(owner.account_id, "login", ME)
    assert made.key.scopes == {"servers:read", "servers:write", "billing:read"}
    for _ in range(24):
        await use_cases.minting.mint(owner.account_id, "login", ME)
    with pytest.raises(KeyLimitReached) as raised:
        await use_cases.minting.mint(owner.account_id, "login", ME)
    assert str(raised.value) == "api key limit reached (max 25 per account); revoke an unused key first"
    assert len(await admin.keys(owner.account_id)) == 25


async def test_the_trail_tells_what_happened_newest_first(use_cases: PortalUseCases) -> None:
    owner = await use_cases.accounts.sign_up(random_email(), PASSWORD, "203.0.113.9")
    made = await use_cases.minting.mint(owner.account_id, "login", Actor("owner:x", "203.0.113.8"))
    await use_cases.accounts.note(owner.account_id, AuditEvent.LOGGED_IN, "203.0.113.7")
    trail = await use_cases.accounts.audit_trail(owner.account_id)
    assert [(line.event, line.source_address, line.key_id) for line in trail] == [
        ("logged_in", "203.0.113.7", None),
        ("key_minted_by_login", "203.0.113.8", made.key.id),
        ("account_created", "203.0.113.9", None),
    ]


async def test_any_account_is_reported_to_a_contact(use_cases: PortalUseCases, admin: KeyAdmin) -> None:
    owner = await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())
    assert await use_cases.accounts.contact(owner.account_id) == Contact(owner.email, is_verified=False)
    await use_cases.verification.send(owner)
    await use_cases.verification.take(use_cases.mail.code(), "")
    assert await use_cases.accounts.contact(owner.account_id) == Contact(owner.email, is_verified=True)
    opened = await admin.create_account("Shop", "shop@example.com", ME)
    assert await use_cases.accounts.contact(opened.id) == Contact("shop@example.com", is_verified=False)
    nobody = await admin.create_account("Shop", None, ME)
    assert await use_cases.accounts.contact(nobody.id) == Contact("", is_verified=False)
    with pytest.raises(Refused, match="there is no account"):
        await use_cases.accounts.contact("acct_none")
