"""What other sites, browsers and strangers try on a session: forged forms, planted cookies, links that lead away."""

import os
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from support.clients.portal_browser import SECRET, Browser, client, token_of
from support.portal_use_cases import PASSWORD, PUBLIC_URL, PortalUseCases, random_address, random_email

from authz.portal.app import application
from authz.portal.browser_sessions import portal_page

FORMS = [
    "/dashboard/login",
    "/dashboard/signup",
    "/dashboard/verify",
    "/dashboard/logout",
    "/dashboard/forgotten",
    "/dashboard/reset",
    "/dashboard/email",
    "/dashboard/sessions",
    "/dashboard/sessions/others",
    "/dashboard/account/email",
    "/dashboard/account/password",
    "/dashboard/account/verification",
    "/dashboard/keys/new",
    "/dashboard/keys/key_x/rotate",
    "/dashboard/keys/key_x/disable",
    "/dashboard/keys/key_x/enable",
    "/dashboard/keys/key_x/revoke",
    "/device",
    "/device/decision",
]
COOKIE = "__Host-session"


def test_no_form_is_left_out(app: FastAPI) -> None:
    posts = {
        str(getattr(route, "path", ""))
        for part in app.routes
        for route in (part.original_router.routes if hasattr(part, "original_router") else [part])
        if "POST" in (getattr(route, "methods", None) or ())
    }
    pages = {path.replace("{key_id}", "key_x") for path in posts if path.startswith(("/dashboard", "/device"))}
    assert pages == set(FORMS)


@pytest.mark.parametrize("path", FORMS)
async def test_a_forged_form_changes_nothing(
    owner: Browser, visitor: Browser, use_cases: PortalUseCases, path: str
) -> None:
    token = token_of((await owner.fetch("/dashboard/keys")).text)
    strangers = token_of((await visitor.fetch("/dashboard/login")).text)
    forgeries = [
        ({}, {}),
        ({"token": ""}, {}),
        ({"token": strangers}, {}),
        ({"token": token[:-1] + "é"}, {}),
        ({"token": token}, {"origin": "https://evil.example"}),
        ({"token": token}, {"origin": "null"}),
        ({"token": token}, {"sec-fetch-site": "cross-site"}),
        ({"token": token}, {"sec-fetch-site": "same-site"}),
    ]
    fields = {"email": random_email(), "password": PASSWORD, "name": "x", "scope": "servers:read", "life": ""}
    for sent, headers in forgeries:
        answer = await owner.client.post(path, data=fields | sent, headers=headers)
        assert answer.status_code == 403, (sent, headers)
        assert "out of date" in answer.text
    (account,) = await use_cases.admin.accounts()
    assert await use_cases.admin.keys(account.id) == []


async def test_a_form_without_the_cookie_changes_nothing(owner: Browser) -> None:
    token = token_of((await owner.fetch("/dashboard/keys")).text)
    owner.client.cookies.clear()
    answer = await owner.client.post("/dashboard/login", data={"token": token, "email": "x", "password": "y"})
    assert answer.status_code == 403


async def test_the_cookie_is_hidden_from_scripts_other_hosts_and_plain_http(visitor: Browser) -> None:
    for answer in (await visitor.fetch("/dashboard/login"), await visitor.sign_up(random_email(), PASSWORD)):
        cookies = [cookie.split("; ") for cookie in answer.headers.get_list("set-cookie")]
        assert [name.partition("=")[0] for name, *_ in cookies] in ([COOKIE], ["__Host-browser", COOKIE])
        for _, *attributes in cookies:
            assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} == set(attributes) - {"Max-Age=15552000"}


async def test_a_planted_cookie_never_becomes_a_session(app: FastAPI, visitor: Browser) -> None:
    planted = "A" * 43
    visitor.client.cookies.set(COOKIE, planted, domain="portal.example")
    email = random_email()
    await visitor.sign_up(email, PASSWORD)
    assert visitor.client.cookies[COOKIE] != planted
    assert (await visitor.fetch("/dashboard/keys")).status_code == 200
    async with client(app, random_address()) as through:
        through.cookies.set(COOKIE, planted, domain="portal.example")
        assert (await through.get("/dashboard/keys")).status_code == 303


async def test_a_login_ends_the_session_that_the_browser_came_with(app: FastAPI, owner: Browser) -> None:
    before = owner.client.cookies[COOKIE]
    async with client(app, random_address()) as through:
        other = Browser(through)
        await other.sign_up(email := random_email(), PASSWORD)
    page = await owner.fetch("/dashboard/account")
    await owner.client.post(
        "/dashboard/login", data={"token": token_of(page.text), "email": email, "password": PASSWORD}
    )
    assert owner.client.cookies[COOKIE] != before
    owner.client.cookies.set(COOKIE, before, domain="portal.example")
    assert (await owner.fetch("/dashboard/keys")).status_code == 303


async def test_a_session_that_was_left_is_over(owner: Browser) -> None:
    secret = owner.client.cookies[COOKIE]
    await owner.submit("/dashboard/keys", {}, action="/dashboard/logout")
    owner.client.cookies.set(COOKIE, secret, domain="portal.example")
    assert (await owner.fetch("/dashboard/keys")).status_code == 303


@pytest.mark.parametrize("value", ["", "x", "A" * 42, "A" * 44, "A" * 42 + "=", "A" * 42 + "é", "../../../../etc"])
async def test_a_cookie_that_is_none_is_replaced(visitor: Browser, value: str) -> None:
    answer = await visitor.client.get("/dashboard/login", headers=[(b"cookie", f"{COOKIE}={value}".encode())])
    assert answer.status_code == 200
    assert visitor.client.cookies[COOKIE] != value


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/dashboard/../../evil",
        "/dashboard//evil.example",
        "/dashboard@evil.example",
        "/dashboard.evil.example",
        "/dashboard/keys\r\nx: y",
        "/dashboard/keys?x=y",
        "javascript:alert(1)",
        "/v1/whoami",
        "",
    ],
)
async def test_no_link_leads_away_from_the_portal(visitor: Browser, use_cases: PortalUseCases, wanted: str) -> None:
    assert portal_page(wanted) == "/dashboard/keys"
    email = random_email()
    await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    page = await visitor.client.get("/dashboard/login", params={"next": wanted})
    assert 'name="next" value="/dashboard/keys"' in page.text
    answer = await visitor.log_in(email, PASSWORD, next=wanted)
    assert answer.headers["location"] == "/dashboard/keys"


async def test_no_page_and_no_mail_believes_the_host_header(owner: Browser, use_cases: PortalUseCases) -> None:
    headers = {"host": "evil.example", "x-forwarded-host": "evil.example", "x-forwarded-proto": "http"}
    for path in ("/dashboard/keys", "/dashboard", "/device", "/nowhere"):
        answer = await owner.client.get(path, headers=headers)
        assert "evil" not in answer.text + str(answer.headers)
    token = token_of((await owner.fetch("/dashboard/account")).text)
    await owner.client.post("/dashboard/account/verification", data={"token": token}, headers=headers)
    assert f"{PUBLIC_URL}/dashboard/verify?code=" in use_cases.mail.mails[-1][2]
    assert "evil" not in use_cases.mail.mails[-1][2]


async def test_a_form_that_is_too_large_or_has_files_is_not_read(owner: Browser) -> None:
    token = token_of((await owner.fetch("/dashboard/keys/new")).text)
    many = await owner.client.post("/dashboard/keys/new", data={"token": token, "scope": ["x"] * 200})
    file = await owner.client.post("/dashboard/keys/new", data={"token": token}, files={"name": os.urandom(9)})
    for answer in (many, file):
        assert (answer.status_code, "Bad request." in answer.text) == (400, True)


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"x" * 1000


@pytest.mark.parametrize("path", ["/dashboard/keys/new", "/dashboard/login", "/v1/public/login"])
async def test_what_is_too_large_is_refused_like_everything_else(owner: Browser, path: str) -> None:
    is_page = path.startswith("/dashboard")
    kind = {"content-type": "application/x-www-form-urlencoded" if is_page else "application/json"}
    for body in (b"x" * 100_000, pieces()):
        answer = await owner.client.post(path, content=body, headers=kind)
        assert answer.status_code == 413
        assert "Too large." in answer.text if is_page else answer.json() == {"error": "too large"}
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_a_crash_shows_nothing_of_itself(
    envoy: httpx.AsyncClient, owner: Browser, use_cases: PortalUseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(_account_id: str) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(use_cases.ledger, "contact", crash)
    monkeypatch.setattr(use_cases.ledger, "owner", crash)
    program = await envoy.get("/v1/whoami", headers={"x-authz-account-id": "acct_1"})
    page = await owner.fetch("/dashboard/keys")
    assert (program.json()["code"], "hunter2" in program.text) == (13, False)
    assert "Internal error" in page.text
    for answer in (program, page):
        assert answer.status_code == 500
        assert "hunter2" not in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_on_loopback_the_cookie_has_a_name_that_browsers_accept(use_cases: PortalUseCases) -> None:
    app = application(use_cases.services("http://127.0.0.1:8000"), proxy_secret="s" * 32, readiness=dict)
    async with client(app, random_address()) as through:
        answer: httpx.Response = await through.get("/dashboard/login")
    assert answer.headers["set-cookie"].startswith("session=")
    assert "strict-transport-security" not in answer.headers


async def test_the_first_of_two_tabs_without_a_cookie_works(envoy: httpx.AsyncClient) -> None:
    pages = []
    for _ in range(2):  # neither tab has a cookie when it is opened
        envoy.cookies.clear()
        pages.append(token_of((await envoy.get("/dashboard/signup")).text))
    headers = {"origin": PUBLIC_URL, "sec-fetch-site": "same-origin"}
    form = {"token": pages[0], "email": random_email(), "password": PASSWORD}
    assert (await envoy.post("/dashboard/signup", data=form, headers=headers)).status_code == 303
    elsewhere: tuple[dict[str, str], ...] = ({}, {"origin": "null"}, {"origin": "https://evil.example"})
    for odd in (*elsewhere, headers | {"sec-fetch-site": "cross-site"}):
        refused = await envoy.post("/dashboard/login", data=form | {"token": "x"}, headers=odd)
        assert refused.status_code == 403


@pytest.mark.parametrize("url", ["https://portal.example", "http://127.0.0.1:8000"])
async def test_a_cookie_is_secure_except_on_loopback_where_webkit_would_drop_it(
    use_cases: PortalUseCases, url: str
) -> None:
    is_secure = url.startswith("https:")
    app = application(use_cases.services(url), proxy_secret=SECRET, readiness=lambda: {"redis": True})
    async with client(app, random_address()) as through:
        cookie = (await through.get("/dashboard/login")).headers["set-cookie"]
    assert ("Secure" in cookie) is is_secure
    assert cookie.startswith("__Host-session=" if is_secure else "session=")
