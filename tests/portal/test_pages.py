"""The dashboard as a browser without scripts uses it: every step of an owner's day, and nothing of another's."""

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from support.clients.portal_browser import Browser, client, key_ids
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

from authz.core.accounts import Actor, AuditEvent
from authz.portal.envoy_only import ADDRESS
from authz.portal.pages.rendering import ago

ME = Actor("operator", "local")
PAGES = ["/dashboard/keys", "/dashboard/keys/new", "/device", "/dashboard/activity", "/dashboard/account"]


async def test_whoever_is_logged_in_needs_no_login(owner: Browser) -> None:
    for path in ("/dashboard/login", "/dashboard/signup"):
        assert (await owner.fetch(path)).headers["location"] == "/dashboard/keys"


async def test_a_form_that_is_refused_says_why_and_keeps_what_was_typed(visitor: Browser) -> None:
    wrong = await visitor.log_in("ada@example.com", "wrong")
    assert wrong.status_code == 401
    assert "invalid email or password" in wrong.text
    assert 'value="ada@example.com"' in wrong.text
    weak = await visitor.sign_up("ada@example.com", "short")
    assert (weak.status_code, "a password is 10 to 256 characters" in weak.text) == (400, True)
    assert "short" not in weak.text
    none = await visitor.sign_up("nothing", PASSWORD)
    assert (none.status_code, "invalid email" in none.text) == (400, True)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_its_owners_and_never_kept(visitor: Browser, owner: Browser, path: str) -> None:
    asked = await visitor.fetch(path)
    assert (asked.status_code, asked.headers["location"][:21]) == (303, "/dashboard/login?next")
    page = await owner.fetch(path)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "<script>" not in page.text
    assert not re.search(r'\s(style|on[a-z]+)="', page.text)
    assert "http://" not in page.text


def account_of(page: str) -> str:
    found = re.search(r"<code>(acct_[a-z0-9]+)</code>", page)
    assert found
    return found[1]


async def test_an_address_is_confirmed_by_a_press_of_a_button_and_not_by_following_the_link(
    owner: Browser, use_cases: PortalUseCases
) -> None:
    assert "not confirmed" in (await owner.fetch("/dashboard/account")).text
    again = await owner.submit("/dashboard/account", {}, action="/dashboard/account/verification")
    assert "link has been sent" in (await owner.fetch(again.headers["location"])).text
    assert len(use_cases.mail.mails) == 2
    code = use_cases.mail.code()
    for _ in range(2):
        page = (await owner.fetch(f"/dashboard/verify?code={code}")).text
        assert "Is the address yours" in page
        assert account_of(page) == account_of((await owner.fetch("/dashboard/account")).text)
        assert page.count(use_cases.mail.mails[-1][0]) == 1
        assert "another account" not in page
    done = await owner.submit(f"/dashboard/verify?code={code}", {"code": code})
    assert "is confirmed" in done.text
    assert "not confirmed" not in (await owner.fetch("/dashboard/account")).text
    used = await owner.submit(f"/dashboard/verify?code={code}", {"code": code})
    assert (used.status_code, "has been used" in used.text.lower()) == (400, True)
    await owner.submit("/dashboard/account", {}, action="/dashboard/account/verification")
    assert len(use_cases.mail.mails) == 2


async def test_a_link_names_its_own_account_to_who_is_logged_in_to_another(
    owner: Browser, visitor: Browser, use_cases: PortalUseCases
) -> None:
    email = use_cases.mail.mails[-1][0]
    link = f"/dashboard/verify?code={use_cases.mail.code(email)}"
    await visitor.sign_up(random_email(), PASSWORD)
    for _ in range(2):
        page = (await visitor.fetch(link)).text
        assert email in page
        assert "another account" in page
    done = await visitor.submit(link, {"code": link.partition("=")[2]})
    assert email in done.text
    assert "not confirmed" in (await visitor.fetch("/dashboard/account")).text
    assert "not confirmed" not in (await owner.fetch("/dashboard/account")).text
    gone = await visitor.fetch(link)
    assert (gone.status_code, "used, replaced or has expired" in gone.text) == (200, True)


async def test_nobodys_mailbox_is_filled_with_links(owner: Browser, use_cases: PortalUseCases) -> None:
    async def again() -> httpx.Response:
        owner.client.headers[ADDRESS] = random_address()
        return await owner.submit("/dashboard/account", {}, action="/dashboard/account/verification")

    assert [(await again()).status_code for _ in range(3)] == [303] * 3
    refused = await again()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3600")
    assert "too many mails, try again later" in refused.text
    assert len(use_cases.mail.mails) == 4


async def test_no_link_is_promised_where_no_mail_is_sent(owner: Browser, use_cases: PortalUseCases) -> None:
    assert "Send the link again" in (await owner.fetch("/dashboard/account")).text
    use_cases.mail.is_set_up = False
    assert "Send the link again" not in (await owner.fetch("/dashboard/account")).text
    asked = await owner.submit("/dashboard/account", {}, action="/dashboard/account/verification")
    assert asked.headers["location"] == "/dashboard/account"


async def test_a_new_password_ends_every_other_session(app: FastAPI, visitor: Browser) -> None:
    email = random_email()
    await visitor.sign_up(email, PASSWORD)
    async with client(app, random_address()) as through:
        elsewhere = Browser(through)
        await elsewhere.log_in(email, PASSWORD)
        wrong = await visitor.submit(
            "/dashboard/account",
            {"current": "wrong", "new": "another horse battery"},
            action="/dashboard/account/password",
        )
        assert (wrong.status_code, "the current password is wrong" in wrong.text) == (401, True)
        assert (await elsewhere.fetch("/dashboard/keys")).status_code == 200
        done = await visitor.submit(
            "/dashboard/account",
            {"current": PASSWORD, "new": "another horse battery"},
            action="/dashboard/account/password",
        )
        assert "has been changed" in (await visitor.fetch(done.headers["location"])).text
        assert (await elsewhere.fetch("/dashboard/keys")).status_code == 303


async def test_a_device_gets_the_scopes_that_its_owner_left(owner: Browser, use_cases: PortalUseCases) -> None:
    started = await use_cases.device.start("198.51.100.4", "truetick/2.1 <b>")
    code = f"{started.user_code[:4]}-{started.user_code[4:]}"
    prefilled = await owner.fetch(f"/device?code={code}")
    assert f'value="{code}"' in prefilled.text
    grant = await owner.submit("/device", {"code": code.lower()})
    for words in (code, "198.51.100.4", "truetick/2.1 &lt;b&gt;", "another address than yours", "servers:write"):
        assert words in grant.text
    unconfirmed = {"code": code, "scope": ["servers:read"], "decision": "approve"}
    refused = await owner.submit("/device", unconfirmed, action="/device/decision")
    assert (refused.status_code, "confirm that your device shows" in refused.text) == (400, True)
    assert ticked(refused.text) == ["servers:read"]
    assert f'name="code" value="{code}"' in refused.text
    approved = await owner.submit("/device", {**unconfirmed, "confirmed": "yes"}, action="/device/decision")
    assert "Device approved" in approved.text
    polled = await use_cases.device.poll(started.device_code, random_address())
    listed = (await owner.fetch("/dashboard/keys")).text
    assert f"…{polled.api_key[-4:]}" in listed
    (key_id,) = key_ids(listed)
    assert (await use_cases.admin.key(key_id)).scopes == {"servers:read"}


async def test_an_owner_who_decides_too_often_gets_retry_after(owner: Browser, use_cases: PortalUseCases) -> None:
    started = await use_cases.device.start(random_address(), "")
    for _ in range(10):
        wrong = await owner.submit("/device", {"code": "BCDF-2345", "decision": "refuse"}, "/device/decision")
        assert wrong.status_code == 400
    late = await owner.submit("/device", {"code": started.user_code, "decision": "refuse"}, "/device/decision")
    assert (late.status_code, late.headers["retry-after"]) == (429, "600")
    assert f'value="{started.user_code}"' in late.text
    assert (await use_cases.device.poll(started.device_code, random_address())).status == "pending"


async def test_a_device_is_refused(owner: Browser, use_cases: PortalUseCases) -> None:
    started = await use_cases.device.start(random_address(), "")
    code = started.user_code
    assert "Approve this device" in (await owner.submit("/device", {"code": code})).text
    assert (
        "receives no key"
        in (await owner.submit("/device", {"code": code, "decision": "refuse"}, "/device/decision")).text
    )
    assert (await use_cases.device.poll(started.device_code, random_address())).status == "expired"
    again = await owner.submit("/device", {"code": code, "decision": "approve", "confirmed": "1"}, "/device/decision")
    assert (again.status_code, "scope" in again.text) == (400, True)
    assert f'value="{code}"' in again.text
    unknown = await owner.submit("/device", {"code": code})
    assert (unknown.status_code, "is not known" in unknown.text) == (400, True)


async def test_a_link_that_needs_a_login_is_gone_on_to_afterwards(visitor: Browser) -> None:
    asked = await visitor.fetch("/device?code=BCDF-2345")
    assert asked.headers["location"] == "/dashboard/login?next=%2Fdevice%3Fcode%3DBCDF-2345"
    assert 'value="/device?code=BCDF-2345"' in (await visitor.fetch(asked.headers["location"])).text


async def test_a_suspended_account_gets_its_own_message_and_makes_no_keys(
    owner: Browser, use_cases: PortalUseCases
) -> None:
    (account,) = await use_cases.admin.accounts()
    await use_cases.admin.change_account(account.id, AuditEvent.ACCOUNT_SUSPENDED, ME)
    assert "This account is suspended" in (await owner.fetch("/dashboard/keys")).text
    page = await owner.submit("/dashboard/keys/new", {"name": "x", "scope": ["servers:read"], "life": ""})
    assert (page.status_code, "suspended" in page.text) == (400, True)


@pytest.mark.parametrize(
    ("elapsed", "words"),
    [
        (timedelta(seconds=-5), "less than a minute ago"),
        (timedelta(seconds=61), "1 minute ago"),
        (timedelta(hours=5), "5 hours ago"),
        (timedelta(days=2), "2 days ago"),
    ],
)
def test_times_are_as_coarse_as_they_matter(elapsed: timedelta, words: str) -> None:
    assert ago(datetime.now(UTC) - elapsed) == words


def ticked(page: str) -> list[str]:
    return re.findall(r'name="scope" value="([^"]+)" checked', page)


async def test_pages_answer_whoever_only_looks_whether_they_are_there(owner: Browser, visitor: Browser) -> None:
    for path in (*PAGES, "/dashboard/verify"):
        looked = await owner.client.head(path)
        assert (looked.status_code, looked.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert looked.headers["cache-control"] == "no-store"
    assert (await visitor.client.head("/dashboard/keys")).headers["location"].startswith("/dashboard/login")


async def test_a_slash_too_many_leads_to_the_same_page(owner: Browser) -> None:
    assert (await owner.fetch("/dashboard/")).headers["location"] == "/dashboard/keys"
    assert "Connect a device" in (await owner.fetch("/device/?code=BCDF-2345")).text


async def test_a_form_that_is_refused_is_announced_by_the_pages_title(visitor: Browser) -> None:
    assert "<title>Log in ·" in (await visitor.fetch("/dashboard/login")).text
    assert "<title>Error: Log in ·" in (await visitor.log_in("ada@example.com", "wrong")).text


async def test_a_failure_still_shows_an_owner_the_way_around(owner: Browser) -> None:
    failed = await owner.fetch("/dashboard/keys/key_x/revoke")
    assert failed.status_code == 404
    assert 'href="/dashboard/activity"' in failed.text
    assert "Log out" in failed.text


async def test_what_goes_wrong_is_a_page_to_people(owner: Browser) -> None:
    for path, status in (("/dashboard/nowhere", 404), ("/device/nowhere", 404), ("/dashboard/logout", 405)):
        page = await owner.fetch(path)
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert "Error" in page.text
    for path in ("/dashboard/static/portal.css", "/dashboard/static/copy.js", "/dashboard/static/icon.svg"):
        file = await owner.fetch(path)
        assert (file.status_code, file.headers["cache-control"]) == (200, "public, max-age=300")


async def test_a_long_trail_is_shown_a_page_at_a_time_and_whole(owner: Browser, use_cases: PortalUseCases) -> None:
    (account,) = await use_cases.admin.accounts()
    for _ in range(249):
        await use_cases.accounts.note(account.id, AuditEvent.LOGGED_IN, random_address())
    path, counts = "/dashboard/activity", []
    while path:
        page = (await owner.fetch(path)).text
        counts.append(len(re.findall(r'<th scope="row">', page)))
        older = re.search(r'href="(/dashboard/activity\?before=[0-9]+)">Older', page)
        path = older[1] if older else ""
    assert counts == [100, 100, 50]
    assert "Account created" in page
    assert 'href="/dashboard/activity">Latest' in page


@pytest.mark.parametrize("before", ["1", "0", "-1", "9" * 18, "9" * 30, "x", "٣", "1;drop", ""])
async def test_a_page_of_the_trail_that_there_is_not_is_no_failure(owner: Browser, before: str) -> None:
    page = await owner.client.get("/dashboard/activity", params={"before": before})
    assert page.status_code == 200
    assert ("Account created" in page.text) is (before not in {"1", "0"})
