"""An owner's sessions in JSON, and which browsers are familiar after a signup or a verified address."""

import httpx
import pytest
from fastapi import FastAPI
from support.clients.portal_browser import Browser, client, token_of
from support.portal_use_cases import PASSWORD, PUBLIC_URL, PortalUseCases, random_address, random_email

from authz.portal.browser_sessions import TOKEN_HEADER

API = "/v1/dashboard"


async def token(envoy: httpx.AsyncClient) -> dict[str, str]:
    facts = (await envoy.get(f"{API}/session")).json()
    return {TOKEN_HEADER: facts["csrf_token"], "origin": PUBLIC_URL, "sec-fetch-site": "same-origin"}


async def logged_in(envoy: httpx.AsyncClient, email: str, browser: str) -> None:
    envoy.headers["user-agent"] = browser
    given = {"email": email, "password": PASSWORD}
    assert (await envoy.post(f"{API}/session", json=given, headers=await token(envoy))).status_code == 200


async def test_an_owner_lists_sessions_ends_one_and_then_all_others(
    app: FastAPI, envoy: httpx.AsyncClient, use_cases: PortalUseCases
) -> None:
    email = random_email()
    owner = await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    async with client(app, random_address()) as phone, client(app, random_address()) as work:
        for through, browser in ((envoy, "here"), (phone, "phone"), (work, "work")):
            await logged_in(through, email, browser)
        listed = (await envoy.get(f"{API}/sessions")).json()
        assert [(one["browser"], one["is_current"]) for one in listed] == [
            ("work", False),
            ("phone", False),
            ("here", True),
        ]
        assert listed[0].keys() == {"id", "started_at", "source_address", "browser", "is_current"}
        end_phone, changes = f"{API}/sessions/{listed[1]['id']}:end", await token(envoy)
        assert (await envoy.post(end_phone)).status_code == 403
        assert (await phone.get(f"{API}/keys")).status_code == 200
        assert (await envoy.post(end_phone, headers=changes)).status_code == 204
        assert (await phone.get(f"{API}/keys")).status_code == 401
        again = await envoy.post(end_phone, headers=changes)
        assert (again.status_code, again.json()) == (400, {"error": "this session has ended"})
        assert (await envoy.post(f"{API}/sessions:end-others")).status_code == 403
        assert (await envoy.post(f"{API}/sessions:end-others", headers=changes)).json() == {"ended": 1}
        assert (await work.get(f"{API}/keys")).status_code == 401
        assert (await envoy.get(f"{API}/keys")).status_code == 200
        assert (await envoy.post(f"{API}/sessions:end-others", headers=changes)).json() == {"ended": 0}
    events = [line.event for line in await use_cases.accounts.audit_trail(owner.account_id)]
    assert events.count("session_ended") == 2


async def test_the_sessions_of_another_account_cannot_be_ended(
    app: FastAPI, envoy: httpx.AsyncClient, use_cases: PortalUseCases
) -> None:
    emails = random_email(), random_email()
    for email in emails:
        await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    async with client(app, random_address()) as other:
        await logged_in(envoy, emails[0], "mine")
        await logged_in(other, emails[1], "theirs")
        (theirs,) = (await other.get(f"{API}/sessions")).json()
        for session_id in (theirs["id"], "x", "@acct_x", "%2F", "\u00e9" * 44):
            answer = await envoy.post(f"{API}/sessions/{session_id}:end", headers=await token(envoy))
            assert answer.status_code in {400, 404}, session_id
        await envoy.post(f"{API}/sessions:end-others", headers=await token(envoy))
        assert (await other.get(f"{API}/sessions")).json() == [theirs]


async def test_a_page_ends_every_other_session(app: FastAPI, envoy: httpx.AsyncClient) -> None:
    email, here = random_email(), Browser(envoy)
    await here.sign_up(email, PASSWORD)
    assert "every other session</button>" not in (await here.fetch("/dashboard/sessions")).text
    async with client(app, random_address()) as phone:
        await Browser(phone).log_in(email, PASSWORD)
        done = await here.submit("/dashboard/sessions", {}, "/dashboard/sessions/others")
        assert done.headers["location"] == "/dashboard/sessions?done=others"
        assert "Every other session has ended." in (await here.fetch(done.headers["location"])).text
        assert (await phone.get("/dashboard/keys")).status_code == 303
        assert (await here.fetch("/dashboard/keys")).status_code == 200


async def wrong_passwords(app: FastAPI, email: str) -> None:
    """Everything that one stranger at the owner's own address, and others elsewhere, can use up."""
    for _ in range(11):
        async with client(app, random_address()) as stranger:
            for _ in range(10):
                given = {"email": email, "password": "wrong wrong wrong"}
                await stranger.post("/v1/public/login", json=given)


@pytest.mark.parametrize("way", ["signup", "verification", "new address"])
async def test_strangers_do_not_lock_out_the_browser_that_signed_up(
    app: FastAPI, envoy: httpx.AsyncClient, use_cases: PortalUseCases, way: str
) -> None:
    email, here = random_email(), Browser(envoy)
    if way == "verification":  # of an account that a command has made
        await use_cases.accounts.sign_up(email, PASSWORD, random_address())
        owner = await use_cases.ledger.owner_of_email(email)
        assert owner is not None
        await use_cases.verification.send(owner)
        code = use_cases.mail.code(email)
        page = await here.fetch(f"/dashboard/verify?code={code}")
        await here.client.post(
            "/dashboard/verify",
            data={"token": token_of(page.text), "code": code},
            headers={"origin": PUBLIC_URL, "sec-fetch-site": "same-origin"},
        )
    else:
        await here.sign_up(email, PASSWORD)
    if way == "new address":
        old, email = email, random_email()
        change = {"email": email, "password": PASSWORD}
        await here.submit("/dashboard/account", change, "/dashboard/account/email")
        for address in (old, email):
            code = use_cases.mail.code(address)
            await here.submit(f"/dashboard/email?code={code}", {"code": code})
    envoy.cookies.delete("__Host-session")
    await wrong_passwords(app, email)
    async with client(app, random_address()) as stranger:
        assert (await Browser(stranger).log_in(email, PASSWORD)).status_code == 429
    assert (await here.log_in(email, PASSWORD)).status_code == 303
