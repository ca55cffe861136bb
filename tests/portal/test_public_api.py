"""The routes for commands: fields, statuses, words and Retry-After as published clients expect them."""

from typing import NoReturn

import httpx
import pytest
from support.builders import request as attributes
from support.clients.portal_browser import Browser
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

from authz.adapters.postgres.pool import Postgres
from authz.adapters.redis.connection.link import RedisLink
from authz.core.check import Deny
from authz.core.device import Approval
from authz.core.errors import DenyReason, StoreUnavailable
from authz.edge.check.codec import refusal_text
from authz.portal.envoy_only import ADDRESS

LIMIT = "api key limit reached (max 25 per account); revoke an unused key first"


def seen(answer: httpx.Response) -> tuple[int, object, str | None]:
    return answer.status_code, answer.json(), answer.headers.get("retry-after")


async def signed_up(envoy: httpx.AsyncClient, email: str) -> dict[str, object]:
    answer = await envoy.post("/v1/public/signup", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    document: dict[str, object] = answer.json()
    return document


async def test_a_signup_gives_a_key_and_mails_a_link(envoy: httpx.AsyncClient, use_cases: PortalUseCases) -> None:
    email = random_email()
    document = await signed_up(envoy, email.upper())
    assert set(document) == {"api_key", "account_id", "email", "email_verified"}
    assert (document["email"], document["email_verified"]) == (email, False)
    (key,) = await use_cases.admin.keys(str(document["account_id"]))
    assert key.hint.endswith(str(document["api_key"])[-4:])
    assert key.scopes == {"servers:read", "servers:write", "billing:read"}
    assert use_cases.mail.mails[0][0] == email


async def test_a_signup_that_is_refused_says_why(envoy: httpx.AsyncClient) -> None:
    email = random_email()
    await signed_up(envoy, email)

    async def refusal(**fields: str) -> tuple[int, object, str | None]:
        return seen(await envoy.post("/v1/public/signup", json={"email": email, "password": PASSWORD} | fields))

    assert await refusal() == (409, {"error": "email already registered"}, None)
    assert await refusal(email="ada") == (400, {"error": "invalid email"}, None)
    assert await refusal(password="short") == (400, {"error": "a password is 10 to 256 characters"}, None)
    for _ in range(8):
        await refusal()
    assert await refusal() == (429, {"error": "too many signups, try again later"}, "3600")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b"[" * 60_000,
        b'{"email": "\xff", "password": "x"}',
        b'{"email": "\\ud800", "password": "x"}',
        b'{"email": "a@example.com", "password": "\\udfff"}',
        b'{"email": 1, "password": "x"}',
        b'{"email": ["x"]}',
    ],
)
async def test_a_body_that_cannot_be_read_is_a_bad_request(envoy: httpx.AsyncClient, body: bytes) -> None:
    for path in ("login", "signup", "device/poll"):
        answer = await envoy.post(f"/v1/public/{path}", content=body, headers={"content-type": "application/json"})
        assert seen(answer) == (400, {"error": "bad request"}, None)


async def test_a_login_gives_another_key(envoy: httpx.AsyncClient, use_cases: PortalUseCases) -> None:
    first = await signed_up(envoy, email := random_email())
    answer = await envoy.post("/v1/public/login", json={"email": f" {email} ", "password": PASSWORD})
    assert answer.status_code == 200
    assert answer.json() == first | {"api_key": answer.json()["api_key"]}
    assert answer.json()["api_key"] != first["api_key"]
    assert len(await use_cases.admin.keys(str(first["account_id"]))) == 2


async def test_a_login_that_is_refused_does_not_say_why(envoy: httpx.AsyncClient) -> None:
    await signed_up(envoy, email := random_email())
    wrong = {"email": email, "password": "wrong"}
    for given in (wrong, {"email": random_email(), "password": PASSWORD}, {"email": "ada", "password": PASSWORD}):
        answer = await envoy.post("/v1/public/login", json=given)
        assert seen(answer) == (401, {"error": "invalid email or password"}, None)
    for _ in range(9):
        await envoy.post("/v1/public/login", json=wrong)
    answer = await envoy.post("/v1/public/login", json=wrong)
    assert seen(answer) == (429, {"error": "too many attempts, try again later"}, "600")


async def test_an_account_with_all_its_keys_logs_in_for_none(
    envoy: httpx.AsyncClient, use_cases: PortalUseCases
) -> None:
    email = random_email()
    document = await signed_up(envoy, email)
    for _ in range(24):
        answer = await envoy.post("/v1/public/login", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 200
    answer = await envoy.post("/v1/public/login", json={"email": email, "password": PASSWORD})
    assert seen(answer) == (429, {"error": LIMIT}, None)
    assert len(await use_cases.admin.keys(str(document["account_id"]))) == 25


async def test_a_device_gets_the_address_of_its_approval(envoy: httpx.AsyncClient) -> None:
    started = (await envoy.post("/v1/public/device/start", json={}, headers={"host": "evil.example"})).json()
    code = started["user_code"]
    assert code[4] == "-"
    assert started == {
        "device_code": started["device_code"],
        "user_code": code,
        "verify_url": "https://portal.example/device",
        "verification_uri": "https://portal.example/device",
        "verification_uri_complete": f"https://portal.example/device?code={code}",
        "expires_in": 300,
        "interval": 2,
    }


async def test_a_device_polls_until_it_has_its_key_once(envoy: httpx.AsyncClient, use_cases: PortalUseCases) -> None:
    account_id = str((await signed_up(envoy, random_email()))["account_id"])
    started = (await envoy.post("/v1/public/device/start", json={})).json()

    async def poll() -> tuple[int, object, str | None]:
        return seen(await envoy.post("/v1/public/device/poll", json={"device_code": started["device_code"]}))

    assert await poll() == (200, {"status": "pending"}, None)
    await use_cases.device.approve(started["user_code"], Approval(account_id, frozenset({"servers:read"})), "")
    status, document, _ = await poll()
    assert isinstance(document, dict)
    assert (status, document["status"], set(document)) == (200, "approved", {"status", "api_key"})
    assert document["api_key"].startswith("ttk_")
    assert await poll() == (200, {"status": "expired"}, None)


async def test_devices_are_slowed_down_in_the_contracts_words(envoy: httpx.AsyncClient) -> None:
    for _ in range(10):
        started = (await envoy.post("/v1/public/device/start")).json()
    answer = await envoy.post("/v1/public/device/start")
    assert seen(answer) == (429, {"error": "too many requests"}, "60")
    for _ in range(8):
        await envoy.post("/v1/public/device/poll", json={"device_code": started["device_code"]})
    answer = await envoy.post("/v1/public/device/poll", json={"device_code": started["device_code"]})
    assert seen(answer) == (429, {"error": "slow down"}, "5")


async def test_a_full_account_tells_its_device_so_and_the_device_may_go_on(
    envoy: httpx.AsyncClient, use_cases: PortalUseCases
) -> None:
    email = random_email()
    account_id = str((await signed_up(envoy, email))["account_id"])
    for _ in range(24):
        await envoy.post("/v1/public/login", json={"email": email, "password": PASSWORD})
    started = (await envoy.post("/v1/public/device/start")).json()
    await use_cases.device.approve(started["user_code"], Approval(account_id, frozenset({"servers:read"})), "")
    answer = await envoy.post("/v1/public/device/poll", json={"device_code": started["device_code"]})
    assert seen(answer) == (429, {"error": LIMIT}, None)


async def test_whoami_tells_whose_key_it_is(envoy: httpx.AsyncClient, use_cases: PortalUseCases) -> None:
    email = random_email()
    account_id = str((await signed_up(envoy, email))["account_id"])
    whose = {"x-authz-account-id": account_id}
    assert (await envoy.get("/v1/whoami", headers=whose)).json() == {
        "accountId": account_id,
        "email": email,
        "emailVerified": False,
    }
    await use_cases.verification.take(use_cases.mail.code(), "")
    assert (await envoy.get("/v1/whoami", headers=whose)).json()["emailVerified"] is True
    nobody = await envoy.get("/v1/whoami")
    assert (nobody.status_code, nobody.json()["code"], nobody.json()["message"]) == (
        401,
        16,
        "invalid or missing api key",
    )


async def test_whoami_without_postgres_fails_like_the_other_keyed_routes(
    envoy: httpx.AsyncClient, use_cases: PortalUseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_account_id: str) -> NoReturn:
        raise StoreUnavailable("postgres", "closed")

    monkeypatch.setattr(use_cases.accounts, "contact", fail)
    failed = await envoy.get("/v1/whoami", headers={"x-authz-account-id": "acct_1"})
    refusal = Deny(DenyReason.STORE_UNAVAILABLE, use_cases.services().policy.routes[0])
    assert failed.status_code == 503
    assert failed.text == refusal_text(use_cases.services().policy, attributes(), refusal)[1]
    assert failed.headers["retry-after"] == "1"


@pytest.mark.parametrize("name", ["x-authz-proxy", ADDRESS])
async def test_what_does_not_come_from_envoy_is_refused(
    envoy: httpx.AsyncClient, use_cases: PortalUseCases, name: str
) -> None:
    account_id = str((await signed_up(envoy, random_email()))["account_id"])
    del use_cases
    for sent in ({}, {name: ""}, {name: "x" * 32}):
        headers = {key: value for key, value in envoy.headers.items() if key != name} | sent
        if name == ADDRESS and sent:
            continue
        request = httpx.Request("GET", "https://portal.example/v1/whoami", headers=headers)
        request.headers["x-authz-account-id"] = account_id
        answer = await envoy._transport.handle_async_request(request)  # noqa: SLF001 -- without the client's own headers
        await answer.aread()
        assert (answer.status_code, answer.json()) == (403, {"error": "forbidden"})


async def test_a_proof_or_an_address_given_twice_is_refused(envoy: httpx.AsyncClient) -> None:
    for name in ("x-authz-proxy", ADDRESS):
        headers = [*envoy.headers.items(), (name, envoy.headers[name])]
        request = httpx.Request("GET", "https://portal.example/v1/whoami", headers=headers)
        assert (await envoy._transport.handle_async_request(request)).status_code == 403  # noqa: SLF001 -- the same


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"email": 1, "password": []}', b'{"email": "a@b.example"}'])
async def test_what_cannot_be_read_is_a_bad_request(envoy: httpx.AsyncClient, body: bytes) -> None:
    answer = await envoy.post("/v1/public/login", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()) == (400, {"error": "bad request"})


async def test_a_body_that_is_too_large_is_not_read(envoy: httpx.AsyncClient) -> None:
    answer = await envoy.post("/v1/public/login", json={"email": random_email(), "password": "x" * 100_000})
    assert answer.status_code == 413


async def test_unavailable_stores_are_a_503_and_nobody_logs_in(
    envoy: httpx.AsyncClient, postgres: Postgres, link: RedisLink
) -> None:
    await signed_up(envoy, email := random_email())
    await postgres.close()
    page = await Browser(envoy).log_in(email, PASSWORD)
    assert (page.status_code, "Go back, and try again in a moment" in page.text) == (503, True)
    for _ in range(2):
        answer = await envoy.post("/v1/public/login", json={"email": email, "password": PASSWORD})
        assert seen(answer) == (503, {"error": "unavailable"}, "1")
        await link.close()


async def test_an_address_is_what_envoy_says_and_nothing_else(envoy: httpx.AsyncClient) -> None:
    for number in range(10):
        forged = {"x-forwarded-for": f"198.51.100.{number}", "x-real-ip": "198.51.100.1", "forwarded": "for=1.2.3.4"}
        assert (await envoy.post("/v1/public/device/start", headers=forged)).status_code == 200
    answer = await envoy.post("/v1/public/device/start", headers={"x-forwarded-for": "198.51.100.77"})
    assert answer.status_code == 429
    elsewhere = await envoy.post("/v1/public/device/start", headers={ADDRESS: random_address()})
    assert elsewhere.status_code == 200


async def test_probes_need_no_envoy_and_the_api_describes_itself(envoy: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz"):
        request = httpx.Request("GET", f"https://portal.example{path}")
        assert (await envoy._transport.handle_async_request(request)).status_code == 200  # noqa: SLF001 -- no headers
    described = (await envoy.get("/dashboard/openapi.json")).json()
    assert {"/v1/public/signup", "/v1/whoami"} <= set(described["paths"])
    for path in ("/docs", "/redoc", "/nowhere"):
        assert (await envoy.get(path)).status_code == 404


async def test_every_answer_tells_browsers_to_be_strict(envoy: httpx.AsyncClient) -> None:
    for path in ("/v1/whoami", "/nowhere", "/healthz"):
        headers = (await envoy.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["strict-transport-security"] == "max-age=31536000"
