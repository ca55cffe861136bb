"""Notices: which are sent, to whom, and what they hold up."""

import pytest
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email, utc_now

from authz.core.errors import StoreUnavailable
from authz.core.owners import Owner
from authz.service.portal.notices import Notice, Notices
from authz.service.portal.owner_keys import OwnerKeys


async def a_verified_owner(use_cases: PortalUseCases) -> Owner:
    owner = await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())
    await use_cases.verification.send(owner)
    return await use_cases.verification.take(use_cases.mail.code(owner.email), "")


@pytest.mark.parametrize("is_on", [True, False])
async def test_the_switch_keeps_the_notices_about_the_login(use_cases: PortalUseCases, *, is_on: bool) -> None:
    owner = await a_verified_owner(use_cases)
    notices = Notices(use_cases.ledger, use_cases.outgoing, is_on=is_on, url="https://x.example", now=utc_now)
    use_cases.mail.mails.clear()
    for notice in Notice:
        notices.tell(owner.account_id, notice, "203.0.113.9", "x")
        await use_cases.supervisor.settled()
    always = [Notice.PASSWORD_CHANGED, Notice.EMAIL_CHANGED]
    assert use_cases.mail.subjects(owner.email) == [notice.value for notice in (Notice if is_on else always)]


async def test_a_notice_is_ascii_on_one_line_each_and_bounded(use_cases: PortalUseCases) -> None:
    owner = await a_verified_owner(use_cases)
    use_cases.notices.tell(
        owner.account_id, Notice.NEW_DEVICE, "203.0.113.9", "a\r\n.\r\n\u202e\U0001f600" + "b" * 9999
    )
    await use_cases.supervisor.settled()
    text = use_cases.mail.mails[-1][2]
    assert text.isascii()
    assert r"a\r\n.\r\n\u202e\U0001f600bbb" in text
    assert len(text) < 1000


async def test_a_mail_server_that_is_down_fails_no_action(
    use_cases: PortalUseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await a_verified_owner(use_cases)

    async def fail(*_mail: str) -> None:
        raise StoreUnavailable("mail", "no answer")

    monkeypatch.setattr(use_cases.mail, "send", fail)
    keys = OwnerKeys(use_cases.admin, use_cases.gate, use_cases.notices)
    made = await keys.create(owner.account_id, "ci", frozenset({"servers:read"}), None, random_address())
    await use_cases.supervisor.settled()
    assert use_cases.supervisor.faults == {"mail": "mail unavailable: no answer"}
    await keys.revoke(owner.account_id, made.key.id, random_address())
    await use_cases.supervisor.settled()
    assert use_cases.supervisor.failures["mail"] == 2


async def test_an_account_keeps_fifty_sessions(use_cases: PortalUseCases) -> None:
    owner = await a_verified_owner(use_cases)
    secrets = [await use_cases.sessions.open(owner, "203.0.113.9", f"browser {number}") for number in range(53)]
    listed = await use_cases.sessions.listed(owner, secrets[-1])
    assert [session.browser for session in listed][:2] == ["browser 52", "browser 51"]
    assert len(listed) == 50
    assert [session.is_current for session in listed] == [True] + [False] * 49
    assert [await use_cases.sessions.owner(secret) is not None for secret in secrets[:5]] == [False] * 3 + [True] * 2
