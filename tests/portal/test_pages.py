"""The dashboard as a browser without scripts uses it: every step of an owner's day, and nothing of another's."""

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from support.clients.portal_requests import Browser, client, key_ids
from support.fakes.portal import PASSWORD, People, an_address, an_email

from authz.core.accounts import Actor, AuditEvent
from authz.portal.envoy_only import ADDRESS
from authz.portal.pages import ago

ME = Actor("operator", "local")
PAGES = ["/dashboard/keys", "/dashboard/keys/new", "/device", "/dashboard/activity", "/dashboard/account"]


async def test_whoever_is_logged_in_needs_no_login(owner: Browser) -> None:
    for path in ("/dashboard/login", "/dashboard/signup"):
        assert (await owner.see(path)).headers["location"] == "/dashboard/keys"


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
    asked = await visitor.see(path)
    assert (asked.status_code, asked.headers["location"][:21]) == (303, "/dashboard/login?next")
    page = await owner.see(path)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "<script>" not in page.text
    assert not re.search(r'\s(style|on[a-z]+)="', page.text)
    assert "http://" not in page.text


async def test_an_address_is_confirmed_by_a_press_of_a_button_and_not_by_following_the_link(
    owner: Browser, people: People
) -> None:
    assert "not confirmed" in (await owner.see("/dashboard/account")).text
    again = await owner.send("/dashboard/account", {}, action="/dashboard/account/verification")
    assert "link has been sent" in (await owner.see(again.headers["location"])).text
    assert len(people.mail.mails) == 2
    code = people.mail.code()
    for _ in range(2):
        assert "Is the address yours" in (await owner.see(f"/dashboard/verify?code={code}")).text
    done = await owner.send(f"/dashboard/verify?code={code}", {"code": code})
    assert "is confirmed" in done.text
    assert "not confirmed" not in (await owner.see("/dashboard/account")).text
    used = await owner.send(f"/dashboard/verify?code={code}", {"code": code})
    assert (used.status_code, "has been used" in used.text.lower()) == (400, True)
    await owner.send("/dashboard/account", {}, action="/dashboard/account/verification")
    assert len(people.mail.mails) == 2


async def test_nobodys_mailbox_is_filled_with_links(owner: Browser, people: People) -> None:
    async def again() -> httpx.Response:
        owner.client.headers[ADDRESS] = an_address()
        return await owner.send("/dashboard/account", {}, action="/dashboard/account/verification")

    assert [(await again()).status_code for _ in range(3)] == [303] * 3
    refused = await again()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3600")
    assert "too many mails, try again later" in refused.text
    assert len(people.mail.mails) == 4


async def test_no_link_is_promised_where_no_mail_is_sent(owner: Browser, people: People) -> None:
    assert "Send the link again" in (await owner.see("/dashboard/account")).text
    people.mail.is_set_up = False
    assert "Send the link again" not in (await owner.see("/dashboard/account")).text
    asked = await owner.send("/dashboard/account", {}, action="/dashboard/account/verification")
    assert asked.headers["location"] == "/dashboard/account"


async def test_a_new_password_ends_every_other_session(app: FastAPI, visitor: Browser) -> None:
    email = an_email()
    await visitor.sign_up(email, PASSWORD)
    async with client(app, an_address()) as through:
        elsewhere = Browser(through)
        await elsewhere.log_in(email, PASSWORD)
        wrong = await visitor.send(
            "/dashboard/account",
            {"current": "wrong", "new": "another horse battery"},
            action="/dashboard/account/password",
        )
        assert (wrong.status_code, "the current password is wrong" in wrong.text) == (401, True)
        assert (await elsewhere.see("/dashboard/keys")).status_code == 200
        done = await visitor.send(
            "/dashboard/account",
            {"current": PASSWORD, "new": "another horse battery"},
            action="/dashboard/account/password",
        )
        assert "has been changed" in (await visitor.see(done.headers["location"])).text
        assert (await elsewhere.see("/dashboard/keys")).status_code == 303


async def test_a_device_is_let_in_with_the_scopes_its_owner_left(owner: Browser, people: People) -> None:
    started = await people.device.start("198.51.100.4", "truetick/2.1 <b>")
    code = f"{started.user_code[:4]}-{started.user_code[4:]}"
    prefilled = await owner.see(f"/device?code={code}")
    assert f'value="{code}"' in prefilled.text
    grant = await owner.send("/device", {"code": code.lower()})
    for words in (code, "198.51.100.4", "truetick/2.1 &lt;b&gt;", "another address than yours", "servers:write"):
        assert words in grant.text
    unconfirmed = {"code": code, "scope": ["servers:read"], "decision": "approve"}
    refused = await owner.send("/device", unconfirmed, action="/device/decision")
    assert (refused.status_code, "confirm that your device shows" in refused.text) == (400, True)
    assert ticked(refused.text) == ["servers:read"]
    assert f'name="code" value="{code}"' in refused.text
    approved = await owner.send("/device", {**unconfirmed, "confirmed": "yes"}, action="/device/decision")
    assert "Device approved" in approved.text
    polled = await people.device.poll(started.device_code, an_address())
    listed = (await owner.see("/dashboard/keys")).text
    assert f"…{polled.api_key[-4:]}" in listed
    (key_id,) = key_ids(listed)
    assert (await people.admin.key(key_id)).scopes == {"servers:read"}


async def test_an_owner_who_decides_too_often_is_told_to_wait(owner: Browser, people: People) -> None:
    started = await people.device.start(an_address(), "")
    for _ in range(10):
        wrong = await owner.send("/device", {"code": "BCDF-2345", "decision": "refuse"}, "/device/decision")
        assert wrong.status_code == 400
    late = await owner.send("/device", {"code": started.user_code, "decision": "refuse"}, "/device/decision")
    assert (late.status_code, late.headers["retry-after"]) == (429, "600")
    assert f'value="{started.user_code}"' in late.text
    assert (await people.device.poll(started.device_code, an_address())).status == "pending"


async def test_a_device_is_refused(owner: Browser, people: People) -> None:
    started = await people.device.start(an_address(), "")
    code = started.user_code
    assert "Approve this device" in (await owner.send("/device", {"code": code})).text
    assert (
        "receives no key"
        in (await owner.send("/device", {"code": code, "decision": "refuse"}, "/device/decision")).text
    )
    assert (await people.device.poll(started.device_code, an_address())).status == "expired"
    again = await owner.send("/device", {"code": code, "decision": "approve", "confirmed": "1"}, "/device/decision")
    assert (again.status_code, "scope" in again.text) == (400, True)
    assert f'value="{code}"' in again.text
    unknown = await owner.send("/device", {"code": code})
    assert (unknown.status_code, "is not known" in unknown.text) == (400, True)


async def test_a_link_that_needs_a_login_is_gone_on_to_afterwards(visitor: Browser) -> None:
    asked = await visitor.see("/device?code=BCDF-2345")
    assert asked.headers["location"] == "/dashboard/login?next=%2Fdevice%3Fcode%3DBCDF-2345"
    assert 'value="/device?code=BCDF-2345"' in (await visitor.see(asked.headers["location"])).text


async def test_a_suspended_account_is_told_so_and_makes_no_keys(owner: Browser, people: People) -> None:
    (account,) = await people.admin.accounts()
    await people.admin.change_account(account.id, AuditEvent.ACCOUNT_SUSPENDED, ME)
    assert "This account is suspended" in (await owner.see("/dashboard/keys")).text
    page = await owner.send("/dashboard/keys/new", {"name": "x", "scope": ["servers:read"], "life": ""})
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
    assert (await owner.see("/dashboard/")).headers["location"] == "/dashboard/keys"
    assert "Connect a device" in (await owner.see("/device/?code=BCDF-2345")).text


async def test_a_form_that_is_refused_is_announced_by_the_pages_title(visitor: Browser) -> None:
    assert "<title>Log in ·" in (await visitor.see("/dashboard/login")).text
    assert "<title>Error: Log in ·" in (await visitor.log_in("ada@example.com", "wrong")).text


async def test_a_failure_still_shows_an_owner_the_way_around(owner: Browser) -> None:
    failed = await owner.see("/dashboard/keys/key_x/revoke")
    assert failed.status_code == 404
    assert 'href="/dashboard/activity"' in failed.text
    assert "Log out" in failed.text


async def test_what_goes_wrong_is_a_page_to_people(owner: Browser) -> None:
    for path, status in (("/dashboard/nowhere", 404), ("/device/nowhere", 404), ("/dashboard/logout", 405)):
        page = await owner.see(path)
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert "Error" in page.text
    for path in ("/dashboard/static/portal.css", "/dashboard/static/copy.js", "/dashboard/static/icon.svg"):
        file = await owner.see(path)
        assert (file.status_code, file.headers["cache-control"]) == (200, "public, max-age=300")


async def test_a_long_trail_is_shown_a_page_at_a_time_and_whole(owner: Browser, people: People) -> None:
    (account,) = await people.admin.accounts()
    for _ in range(249):
        await people.accounts.note(account.id, AuditEvent.LOGGED_IN, an_address())
    path, counts = "/dashboard/activity", []
    while path:
        page = (await owner.see(path)).text
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
