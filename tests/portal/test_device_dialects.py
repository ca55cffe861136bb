"""The device flow speaks the dialect of the request: the older JSON one, or RFC 8628."""

import re
from typing import Any

import httpx
import pytest
from support.clients.portal_browser import Browser
from support.portal_use_cases import PortalUseCases, random_address, random_email

from authz.core.device import Approval
from authz.core.owners import Owner

START, POLL = "/v1/public/device/start", "/v1/public/device/poll"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Device:
    """A client of RFC 8628, by the letter: forms or JSON."""

    def __init__(self, envoy: httpx.AsyncClient, encoding: str) -> None:
        self.envoy = envoy
        self.encoding = encoding

    async def send(self, path: str, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        answer = await (
            self.envoy.post(path, data=fields) if self.encoding == "form" else self.envoy.post(path, json=fields)
        )
        document: dict[str, Any] = answer.json()
        return answer.status_code, document

    async def start(self, scope: str = "") -> dict[str, Any]:
        status, document = await self.send(START, {"client_id": "sdk"} | ({"scope": scope} if scope else {}))
        assert status == 200, document
        return document

    async def poll(self, code: str, **fields: str) -> tuple[int, dict[str, Any]]:
        return await self.send(POLL, {"grant_type": GRANT, "device_code": code, "client_id": "sdk"} | fields)


@pytest.fixture(params=["form", "json"])
def device(request: pytest.FixtureRequest, envoy: httpx.AsyncClient) -> Device:
    return Device(envoy, str(request.param))


@pytest.fixture
async def account(use_cases: PortalUseCases) -> Owner:
    return await use_cases.accounts.sign_up(random_email(), "correct horse battery", random_address())


async def test_a_device_by_the_rfc_gets_an_access_token_once(
    device: Device, use_cases: PortalUseCases, account: Owner
) -> None:
    started = await device.start("servers:read")
    assert started["verification_uri_complete"] == f"{started['verification_uri']}?code={started['user_code']}"
    assert (started["expires_in"], started["interval"]) == (300, 2)
    assert await device.poll(started["device_code"]) == (400, {"error": "authorization_pending"})
    await use_cases.device.approve(
        started["user_code"], Approval(account.account_id, frozenset({"servers:read"})), random_address()
    )
    status, document = await device.poll(started["device_code"])
    assert (status, document["token_type"]) == (200, "api_key")
    assert document["access_token"].startswith("ttk_")
    (key,) = await use_cases.admin.keys(account.account_id)
    assert key.scopes == {"servers:read"}
    assert await device.poll(started["device_code"]) == (400, {"error": "expired_token"})


async def test_a_refused_device_is_told_so_by_the_rfc_alone(
    device: Device, envoy: httpx.AsyncClient, use_cases: PortalUseCases, account: Owner
) -> None:
    started = await device.start()
    await use_cases.device.refuse(started["user_code"], account.account_id, random_address())
    assert await device.poll(started["device_code"]) == (400, {"error": "access_denied"})
    older = await envoy.post(POLL, json={"device_code": started["device_code"]})
    assert (older.status_code, older.json()) == (200, {"status": "expired"})


async def test_a_hasty_device_is_told_to_slow_down(device: Device) -> None:
    started = await device.start()
    answers = [await device.poll(started["device_code"]) for _ in range(12)]
    assert answers[0] == (400, {"error": "authorization_pending"})
    assert (400, {"error": "slow_down", "error_description": "slow down"}) in answers
    assert {status for status, _ in answers} == {400}


@pytest.mark.parametrize(
    ("fields", "error"),
    [({"grant_type": "password"}, "unsupported_grant_type"), ({"device_code": ""}, "invalid_request")],
)
async def test_a_wrong_poll_is_named_by_the_rfc(device: Device, fields: dict[str, str], error: str) -> None:
    status, document = await device.poll("x", **fields)
    assert (status, document["error"]) == (400, error)


async def test_an_unknown_code_and_an_unknown_scope(device: Device) -> None:
    assert await device.poll("BCDF2345" + "x" * 43) == (400, {"error": "expired_token"})
    status, document = await device.send(START, {"client_id": "sdk", "scope": "servers:read all"})
    assert (status, document["error"]) == (400, "invalid_scope")


@pytest.mark.parametrize(
    ("scope", "description"),
    [('a"\\b\x00', "there is no scope a??b?"), ("a" * 60_000, f"there is no scope {'a' * 182}")],
)
async def test_a_description_has_the_characters_and_the_size_of_the_rfc(
    device: Device, scope: str, description: str
) -> None:
    document = (await device.send(START, {"client_id": "sdk", "scope": scope}))[1]
    assert document == {"error": "invalid_scope", "error_description": description}


async def test_an_account_with_all_its_keys_is_said_to_be_the_reason(
    device: Device, use_cases: PortalUseCases, account: Owner
) -> None:
    for number in range(25):
        await use_cases.minting.mint(account.account_id, f"key {number}", use_cases.actor)
    started = await device.start()
    approval = Approval(account.account_id, frozenset({"servers:read"}))
    await use_cases.device.approve(started["user_code"], approval, random_address())
    status, document = await device.poll(started["device_code"])
    assert (status, document["error"]) == (400, "access_denied")
    assert "api key limit reached" in document["error_description"]


async def test_the_older_dialect_is_as_before(
    envoy: httpx.AsyncClient, use_cases: PortalUseCases, account: Owner
) -> None:
    for body in (b"", b"rubbish", b"[" * 30_000, b"[]", b"{}"):
        started = (await envoy.post(START, content=body)).json()
        assert re.fullmatch("[A-Z]{4}-[0-9]{4}", started["user_code"])
    poll = {"device_code": started["device_code"]}
    assert (await envoy.post(POLL, json=poll)).json() == {"status": "pending"}
    await use_cases.device.approve(
        started["user_code"], Approval(account.account_id, frozenset({"billing:read"})), random_address()
    )
    assert (await envoy.post(POLL, json=poll)).json()["status"] == "approved"
    assert (await envoy.post(POLL, json=poll)).json() == {"status": "expired"}


async def test_requested_scopes_narrow_what_the_approval_offers(owner: Browser, use_cases: PortalUseCases) -> None:
    started = await use_cases.device.start(random_address(), "sdk", frozenset({"servers:read", "billing:read"}))
    page = (await owner.submit("/device", {"code": started.user_code})).text
    assert set(re.findall(r'name="scope" value="([^"]+)" checked', page)) == {"servers:read", "billing:read"}
    assert set(re.findall(r'name="scope" value="([^"]+)"', page)) == {"servers:read", "billing:read"}
    facts = (await owner.fetch(f"/v1/dashboard/device/{started.user_code}")).json()
    assert facts["scopes"] == ["billing:read", "servers:read"]
    wider = {"code": started.user_code, "scope": ["servers:write"], "confirmed": "yes", "decision": "approve"}
    refused = await owner.submit("/device", wider, "/device/decision")
    assert (refused.status_code, "did not request" in refused.text) == (400, True)
    narrower = wider | {"scope": ["billing:read"]}
    assert "Device approved" in (await owner.submit("/device", narrower, "/device/decision")).text


async def test_a_navigation_from_another_site_uses_up_no_look(owner: Browser, use_cases: PortalUseCases) -> None:
    started = await use_cases.device.start(random_address(), "")
    path = f"/v1/dashboard/device/{started.user_code}"
    for site in ("cross-site", "same-site"):
        for _ in range(12):
            answer = await owner.client.get(path, headers={"sec-fetch-site": site})
            assert answer.status_code == 403
    assert (await owner.fetch(path)).status_code == 200
