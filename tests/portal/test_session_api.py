"""The dashboard in JSON: the same sessions, rules and words as the pages."""

import json
from collections.abc import Mapping

import httpx
import pytest
from support.portal_use_cases import PASSWORD, PUBLIC_URL, PortalUseCases, random_address, random_email

from authz.core.device import shown
from authz.portal.browser_sessions import TOKEN_HEADER

API = "/v1/dashboard"


async def token(envoy: httpx.AsyncClient) -> dict[str, str]:
    """What a page of ours sends with a change."""
    facts = (await envoy.get(f"{API}/session")).json()
    return {TOKEN_HEADER: facts["csrf_token"], "origin": PUBLIC_URL, "sec-fetch-site": "same-origin"}


async def logged_in(envoy: httpx.AsyncClient, use_cases: PortalUseCases) -> dict[str, str]:
    email = random_email()
    owner = await use_cases.accounts.sign_up(email, PASSWORD, random_address())
    before = await token(envoy)
    answer = await envoy.post(f"{API}/session", json={"email": email, "password": PASSWORD}, headers=before)
    assert answer.json() == {
        "account_id": owner.account_id,
        "email": email,
        "email_verified": False,
        "csrf_token": (await token(envoy))[TOKEN_HEADER],
    }
    assert before != await token(envoy)
    return await token(envoy)


async def test_a_key_from_its_making_to_its_end(envoy: httpx.AsyncClient, use_cases: PortalUseCases) -> None:
    changes = await logged_in(envoy, use_cases)
    wanted = {"name": "ci", "scopes": ["servers:read"], "expires_at": "2100-01-01T00:00:00Z"}
    made = (await envoy.post(f"{API}/keys", json=wanted, headers=changes)).json()
    assert made["api_key"].startswith("ttk_")
    assert (await envoy.get(f"{API}/keys")).json() == [made["key"]]
    assert made["key"] | wanted == made["key"] | {"state": "active", "last_used_at": None}
    path = f"{API}/keys/{made['key']['id']}"
    rotated = (await envoy.post(f"{path}:rotate", json={"overlap_s": 60}, headers=changes)).json()
    assert rotated["api_key"] != made["api_key"]
    for verb, state in (("disable", "disabled"), ("enable", "active")):
        assert (await envoy.post(f"{path}:{verb}", headers=changes)).status_code == 204
        assert (await envoy.get(f"{API}/keys")).json()[-1]["state"] == state
    assert (await envoy.post(f"{path}:revoke", headers=changes)).status_code == 204
    states = {key["id"]: key["state"] for key in (await envoy.get(f"{API}/keys")).json()}
    assert states == {made["key"]["id"]: "revoked", rotated["key"]["id"]: "active"}
    events = [line["event"] for line in (await envoy.get(f"{API}/audit")).json()]
    assert events[0] == "key_revoked"
    assert events[-2:] == ["logged_in", "account_created"]
    last = (await envoy.get(f"{API}/audit")).json()[-1]
    assert (await envoy.get(f"{API}/audit", params={"before": last["number"] + 1})).json() == [last]
    assert (await envoy.get(f"{API}/audit", params={"before": 2**63})).status_code == 400
    assert (await envoy.delete(f"{API}/session", headers=changes)).status_code == 204
    assert (await envoy.get(f"{API}/keys")).status_code == 401


async def test_a_device_is_shown_and_approved_or_refused(envoy: httpx.AsyncClient, use_cases: PortalUseCases) -> None:
    changes = await logged_in(envoy, use_cases)
    for verb, body, status in (("approve", {"scopes": ["servers:read"]}, "approved"), ("refuse", None, "expired")):
        started = await use_cases.device.start("203.0.113.7", "cli")
        path = f"{API}/device/{shown(started.user_code)}"
        facts = (await envoy.get(path)).json()
        assert (facts["user_code"], facts["client"], facts["source_address"]) == (path[-9:], "cli", "203.0.113.7")
        assert (await envoy.post(f"{path}:{verb}", json=body, headers=changes)).status_code == 204
        assert (await use_cases.device.poll(started.device_code, random_address())).status == status


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/session"),
        ("DELETE", "/session"),
        ("POST", "/keys"),
        ("POST", "/keys/key_x:rotate"),
        ("POST", "/keys/key_x:disable"),
        ("POST", "/keys/key_x:enable"),
        ("POST", "/keys/key_x:revoke"),
        ("POST", "/sessions:end-others"),
        ("POST", "/sessions/x:end"),
        ("POST", "/device/BCDF-2345:approve"),
        ("POST", "/device/BCDF-2345:refuse"),
    ],
)
async def test_a_change_from_elsewhere_is_refused(
    envoy: httpx.AsyncClient, use_cases: PortalUseCases, method: str, path: str
) -> None:
    changes = await logged_in(envoy, use_cases)
    for forged in ({}, changes | {TOKEN_HEADER: "x"}, changes | {"origin": "https://evil.example"}):
        answer = await envoy.request(method, API + path, json={}, headers=forged)
        assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/keys", "/audit", "/sessions", "/device/BCDF-2345"])
async def test_nobody_sees_anything_without_a_session(envoy: httpx.AsyncClient, path: str) -> None:
    answer = await envoy.get(API + path)
    assert (answer.status_code, answer.json()) == (401, {"error": "log in first"})


async def test_what_the_rules_do_not_permit_is_refused_in_words(
    envoy: httpx.AsyncClient, use_cases: PortalUseCases
) -> None:
    changes = await logged_in(envoy, use_cases)

    async def refusal(path: str, body: Mapping[str, object]) -> tuple[int, str]:
        kind = {"content-type": "application/json"}
        answer = await envoy.post(API + path, content=json.dumps(body), headers=changes | kind)
        return answer.status_code, answer.json()["error"]

    assert await refusal("/keys", {"name": "x", "scopes": []}) == (400, "a key needs at least one scope")
    wanted: dict[str, object] = {"name": "x", "scopes": ["servers:read"]}
    for unreadable in ({"expires_at": "2100-01-01T00:00:00"}, {"scopes": ["\ud800"]}, {"name": None}):
        assert await refusal("/keys", wanted | unreadable) == (400, "bad request")
    never = "the expiry is more than a hundred years away; leave it out instead"
    assert await refusal("/keys", wanted | {"expires_at": "9999-12-31T23:59:59-23:59"}) == (400, never)
    assert await refusal("/keys/key_x:rotate", {"overlap_s": 0}) == (404, "there is no such key")
    assert (await refusal("/device/BCDF-2345:approve", {"scopes": ["servers:read"]}))[0] == 400
