"""The pages behind mailed links, and the list of sessions: as a browser without scripts uses them."""

import re
from html import unescape

import pytest
from fastapi import FastAPI
from support.clients.portal_browser import Browser, client, make_key
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

NEW = "another horse battery"
FORGOTTEN = "/dashboard/forgotten"


async def signed_up(app: FastAPI) -> tuple[Browser, str]:
    browser, email = Browser(client(app, random_address())), random_email()
    assert (await browser.sign_up(email, PASSWORD)).status_code == 303
    return browser, email


async def reset_page(browser: Browser, use_cases: PortalUseCases, email: str) -> tuple[str, str]:
    """Request a link; return the page that it leads to, and its code."""
    assert (await browser.submit(FORGOTTEN, {"email": email})).status_code == 200
    code = use_cases.mail.code(email)
    return f"/dashboard/reset?code={code}", code


def sessions_of(page: str) -> list[str]:
    return re.findall(r'name="session" value="([^"]+)"', page)


async def test_a_forgotten_password_is_replaced(app: FastAPI, use_cases: PortalUseCases, visitor: Browser) -> None:
    elsewhere, email = await signed_up(app)
    assert "Forgotten password?" in (await visitor.fetch("/dashboard/login")).text
    link, code = await reset_page(visitor, use_cases, email)
    for _ in range(2):  # a mail scanner follows the link
        assert email in (await visitor.fetch(link)).text
    refused = await visitor.submit(link, {"code": code, "new": "short"})
    assert (refused.status_code, "Error:" in refused.text, email in refused.text) == (400, True, True)
    done = await visitor.submit(link, {"code": code, "new": NEW})
    assert (done.status_code, done.headers["location"]) == (303, "/dashboard/account?done=reset")
    assert "every session of before has ended" in (await visitor.fetch(done.headers["location"])).text
    assert (await elsewhere.fetch("/dashboard/keys")).status_code == 303
    assert (await elsewhere.log_in(email, PASSWORD)).status_code == 401
    assert (await elsewhere.log_in(email, NEW)).status_code == 303
    for again in (await visitor.fetch(link), await visitor.submit("/dashboard/account", {"code": code}, link)):
        assert (again.status_code, "used or has expired" in again.text) == (400, True)


async def test_the_page_is_the_same_with_and_without_an_account(app: FastAPI, visitor: Browser) -> None:
    _, email = await signed_up(app)
    pages = [await visitor.submit(FORGOTTEN, {"email": each}) for each in (email, random_email(), "no address")]
    assert {(page.status_code, re.sub(r'value="[0-9a-f]{64}"', "", page.text)) for page in pages} == {
        (200, re.sub(r'value="[0-9a-f]{64}"', "", pages[0].text))
    }


async def test_a_locked_out_owner_gets_in_by_a_link(app: FastAPI, use_cases: PortalUseCases, visitor: Browser) -> None:
    _, email = await signed_up(app)
    for _ in range(10):
        stranger = Browser(client(app, random_address()))
        for _ in range(10):
            await stranger.client.post("/v1/public/login", json={"email": email, "password": "wrong horse"}, headers={})
    assert (await visitor.log_in(email, PASSWORD)).status_code == 429
    link, code = await reset_page(visitor, use_cases, email)
    assert (await visitor.submit(link, {"code": code, "new": NEW})).status_code == 303
    assert (await visitor.fetch("/dashboard/keys")).status_code == 200
    await visitor.submit("/dashboard/keys", {}, "/dashboard/logout")
    assert (await visitor.log_in(email, NEW)).status_code == 303  # this browser is familiar now


@pytest.mark.parametrize(
    "path", ["/dashboard/reset", "/dashboard/email", "/dashboard/sessions", "/dashboard/account/email"]
)
async def test_no_other_site_sends_these_forms(owner: Browser, path: str) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {}):
        done = await owner.client.post(path, data={"code": "x", "new": NEW, "token": "0" * 64}, headers=headers)
        assert done.status_code == 403


async def test_no_other_site_requests_a_link(visitor: Browser, use_cases: PortalUseCases) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {}):
        assert (await visitor.client.post(FORGOTTEN, data={"email": "a@b.c"}, headers=headers)).status_code == 403
    assert use_cases.mail.mails == []


async def test_an_address_moves_by_two_links(app: FastAPI, use_cases: PortalUseCases, visitor: Browser) -> None:
    owner, email = await signed_up(app)
    new = random_email()
    wrong = await owner.submit("/dashboard/account", {"email": new, "password": "wrong"}, "/dashboard/account/email")
    assert (wrong.status_code, "the current password is wrong" in wrong.text) == (401, True)
    sent = await owner.submit("/dashboard/account", {"email": new, "password": PASSWORD}, "/dashboard/account/email")
    assert sent.headers["location"] == "/dashboard/account?done=email"
    links = [f"/dashboard/email?code={use_cases.mail.code(each)}" for each in (email, new)]
    for link, words in zip(links, (f"sent to <strong>{new}", "has changed"), strict=True):
        page = (await visitor.fetch(link)).text
        assert email in page
        assert new in page
        done = await visitor.submit(link, {"code": link.partition("=")[2]})
        assert words in done.text
    assert new in (await owner.fetch("/dashboard/account")).text
    assert (await visitor.fetch(links[0])).status_code == 400


async def test_an_owner_lists_and_ends_sessions(app: FastAPI, use_cases: PortalUseCases) -> None:
    first, email = await signed_up(app)
    browsers = [Browser(client(app, random_address())) for _ in range(2)]
    for number, browser in enumerate(browsers):
        browser.client.headers["user-agent"] = f"Browser/{number} <b>"
        assert (await browser.log_in(email, PASSWORD)).status_code == 303
    page = (await first.fetch("/dashboard/sessions")).text
    assert len(sessions_of(page)) == 3
    assert page.count("this one") == 1
    assert "Browser/1 &lt;b&gt;" in page
    newest = unescape(sessions_of(page)[0])
    done = await first.submit("/dashboard/sessions", {"session": newest})
    assert done.headers["location"] == "/dashboard/sessions?done=ended"
    assert [(await each.fetch("/dashboard/keys")).status_code for each in (first, *browsers)] == [200, 200, 303]
    assert (await first.submit("/dashboard/sessions", {"session": newest})).status_code == 400
    stranger, _ = await signed_up(app)
    others = sessions_of((await stranger.fetch("/dashboard/sessions")).text)
    for foreign in (*others, "", "\ud83d", "x" * 44, "é" * 44):
        value = foreign.encode("utf-8", "replace").decode()
        assert (await first.submit("/dashboard/sessions", {"session": value})).status_code == 400
    assert (await stranger.fetch("/dashboard/keys")).status_code == 200
    owner = await use_cases.ledger.owner_of_email(email)
    assert owner
    assert (await use_cases.accounts.audit_trail(owner.account_id))[0].event == "session_ended"


async def test_logged_out_sessions_are_not_listed(app: FastAPI) -> None:
    browser, email = await signed_up(app)
    for _ in range(3):
        await browser.submit("/dashboard/keys", {}, "/dashboard/logout")
        await browser.log_in(email, PASSWORD)
    assert len(sessions_of((await browser.fetch("/dashboard/sessions")).text)) == 1


async def test_an_owner_hears_of_keys_and_new_browsers(
    app: FastAPI, use_cases: PortalUseCases, visitor: Browser
) -> None:
    owner, email = await signed_up(app)
    await make_key(owner, "silent")
    await owner.submit(f"/dashboard/verify?code={use_cases.mail.code(email)}", {"code": use_cases.mail.code(email)})
    use_cases.mail.mails.clear()  # an address that nobody has verified gets no notices
    secret = await make_key(owner, "clé 1")
    key_id = re.findall(r"/dashboard/keys/(key_[a-z0-9]+)/rotate", (await owner.fetch("/dashboard/keys")).text)[0]
    assert (await owner.submit(f"/dashboard/keys/{key_id}/rotate", {"overlap": "3600"})).status_code == 200
    assert (await owner.submit(f"/dashboard/keys/{key_id}/revoke", {})).status_code == 303
    visitor.client.headers["user-agent"] = "Browser/9"
    for _ in range(2):
        await visitor.log_in(email, PASSWORD)
        await visitor.submit("/dashboard/keys", {}, "/dashboard/logout")
    assert use_cases.mail.subjects(email) == [
        "A new API key for your account",
        "An API key of your account was rotated",
        "An API key of your account was revoked",
        "A login from a new browser",
    ]
    texts = "".join(text for _, _, text in use_cases.mail.mails)
    assert texts.isascii()
    assert secret not in texts
    assert "Browser/9" in texts


async def test_without_mail_the_pages_promise_none(app: FastAPI, use_cases: PortalUseCases, owner: Browser) -> None:
    use_cases.mail.is_set_up = False
    account = (await owner.fetch("/dashboard/account")).text
    assert "Change the e-mail address" not in account
    visitor = Browser(client(app, random_address()))
    assert "Forgotten" not in (await visitor.fetch("/dashboard/login")).text
    assert (await visitor.submit(FORGOTTEN, {"email": "a@b.example"})).status_code == 400
