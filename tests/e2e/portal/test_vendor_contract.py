"""The wire calls of the vendor's clients, recorded from their documentation, through Envoy and authz to the backend."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from support.clients.portal_client import PASSWORD, PortalClient

from authz.demo.stack import Stack

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True)
class Call:
    """A call and the fields that the client shows of its response."""

    method: str
    path: str
    body: dict[str, Any] | None
    shown: set[str]


CALLS = (
    Call("GET", "/v1/whoami", None, {"accountId", "email", "emailVerified"}),
    Call("GET", "/v1/servers?account_id={account}", None, {"servers"}),
    Call("POST", "/v1/servers", {"accountId": "{account}", "name": "spawn"}, {"id"}),
    Call("GET", "/v1/servers/s1", None, {"id", "name", "hostname", "state", "version"}),
    Call("DELETE", "/v1/servers/s1", None, {"id"}),
    Call("POST", "/v1/servers/s1:set-version", {"version": "1.21"}, {"id"}),
    Call("POST", "/v1/servers/s1:set-properties", {"properties": {}}, {"id"}),
    Call("POST", "/v1/servers/s1:set-motd", {"motd": "Hello"}, {"id"}),
    Call("POST", "/v1/servers/s1:start", {}, {"id"}),
    Call("POST", "/v1/servers/s1:stop", {}, {"id"}),
    Call("POST", "/v1/servers/s1:restart", {}, {"id"}),
    Call("POST", "/v1/servers/s1:command", {"command": "say hi"}, {"output"}),
    Call("POST", "/v1/servers/s1:enable-sftp", {}, {"host", "username", "password"}),
    Call("GET", "/v1/servers/s1/metrics", None, {"tps", "players"}),
    Call("GET", "/v1/servers/s1/tick-history", None, {"minutes"}),
    Call("GET", "/v1/servers/s1/logs?tail=5", None, {"lines"}),
    Call("GET", "/v1/servers/s1/files", None, {"entries"}),
    Call("GET", "/v1/servers/s1/file?path=server.properties", None, {"content"}),
    Call("POST", "/v1/servers/s1/file", {"path": "a.txt", "content": "aGk="}, {"id"}),
    Call("POST", "/v1/servers/s1/file:delete", {"path": "a.txt"}, {"id"}),
    Call("GET", "/v1/servers/s1/mods", None, {"mods"}),
    Call("GET", "/v1/servers/s1/mods/versions", None, {"versions"}),
    Call("POST", "/v1/servers/s1/mods", {"id": "lithium"}, {"id"}),
    Call("POST", "/v1/servers/s1/mods:remove", {"id": "lithium"}, {"id"}),
    Call("GET", "/v1/servers/s1/backups", None, {"backups"}),
    Call("POST", "/v1/servers/s1/backups", {}, {"id"}),
    Call("POST", "/v1/servers/s1/backups/b1:restore", {}, {"id"}),
    Call("POST", "/v1/servers/s1/backups/b1:set-kept", {"kept": True}, {"id"}),
    Call("GET", "/v1/templates", None, {"templates"}),
    Call("POST", "/v1/templates/survival:create", {}, {"id"}),
    Call("GET", "/v1/regions", None, {"regions"}),
    Call("GET", "/v1/capacity", None, {"eu-central"}),
    Call("GET", "/v1/accounts/{account}/wallet", None, {"accountId", "balanceMicros", "currency"}),
    Call("POST", "/v1/accounts/{account}/checkout-link", {"amountMicros": 5_000_000}, {"checkoutUrl"}),
)


REFUSALS: tuple[tuple[str, str, dict[str, str], tuple[int, int, str]], ...] = (
    ("GET", "/v1/servers", {}, (401, 16, "invalid or missing api key")),
    ("GET", "/v1/servers", {"authorization": "Bearer {key}"}, (401, 16, "invalid or missing api key")),
    ("GET", "/v1/servers", {"x-api-key": "ttk_" + "0" * 49}, (401, 16, "invalid or missing api key")),
    ("GET", "/v1/accounts/acct_other/wallet", {"x-api-key": "{key}"}, (403, 7, "account mismatch")),
    ("GET", "/v1/servers?account_id=acct_other", {"x-api-key": "{key}"}, (403, 7, "account mismatch")),
    ("GET", "/v1/nope", {"x-api-key": "{key}"}, (404, 5, "not found")),
)


@pytest.fixture
def owner(portal_stack: Stack) -> Iterator[PortalClient]:
    owner = PortalClient(portal_stack.url)
    yield owner
    owner.client.close()


def test_each_call_shows_what_the_client_expects(portal_stack: Stack, owner: PortalClient) -> None:
    account = owner.sign_up()
    headers = {"x-api-key": account["api_key"], "content-type": "application/json"}
    with httpx.Client(base_url=portal_stack.url, trust_env=False) as client:
        for call in CALLS:
            path = call.path.replace("{account}", account["account_id"])
            body = call.body
            if body is not None and "accountId" in body:
                body = {**body, "accountId": account["account_id"]}
            answer = client.request(call.method, path, headers=headers, json=body)
            assert answer.status_code == 200, (call, answer.text)
            assert call.shown <= answer.json().keys(), call


def test_the_sdk_signs_a_device_in(owner: PortalClient) -> None:
    owner.sign_up()
    owner.log_in()
    form = {"client_id": "sdk", "scope": "servers:read billing:read"}
    started = owner.client.post("/v1/public/device/start", data=form).json()
    assert started["verification_uri"] == f"{owner.url}/device"
    poll = {"grant_type": GRANT, "device_code": started["device_code"], "client_id": "sdk"}
    pending = owner.client.post("/v1/public/device/poll", data=poll)
    assert (pending.status_code, pending.json()) == (400, {"error": "authorization_pending"})
    decision = owner.session("POST", f"/device/{started['user_code']}:approve", {"scopes": ["servers:read"]})
    assert decision.status_code == 204, decision.text
    time.sleep(started["interval"])
    token = owner.client.post("/v1/public/device/poll", data=poll).json()["access_token"]
    for path, status in (("/v1/servers", 200), ("/v1/servers/s1/files", 403)):
        assert owner.client.get(path, headers={"x-api-key": token}).status_code == status


def test_a_login_of_the_older_dialect_gives_a_key(owner: PortalClient) -> None:
    account = owner.sign_up()
    again = owner.public("login", {"email": owner.email, "password": PASSWORD})
    assert again.status_code == 200
    assert again.json().keys() == account.keys() == {"api_key", "account_id", "email", "email_verified"}


@pytest.mark.parametrize(("method", "path", "headers", "refusal"), REFUSALS)
def test_refusals_have_the_format_of_the_api(
    owner: PortalClient, method: str, path: str, headers: dict[str, str], refusal: tuple[int, int, str]
) -> None:
    key = owner.sign_up()["api_key"]
    answer = owner.client.request(method, path, headers={name: text.format(key=key) for name, text in headers.items()})
    body = answer.json()
    assert (answer.status_code, body["code"], body["message"]) == refusal
    assert isinstance(body["details"], list)


def test_the_log_stream_begins_with_its_tail_and_goes_on(owner: PortalClient) -> None:
    headers = {"x-api-key": owner.sign_up()["api_key"], "content-type": "application/json"}
    with owner.client.stream("GET", "/v1/servers/s1/logs/stream?tail=2", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        seen = b""
        for chunk in stream.iter_bytes():
            seen += chunk
            if seen.count(b"\n\n") >= 3:
                break
    assert all(event.startswith((b"data: ", b": ")) for event in seen.split(b"\n\n")[:3])
    assert b"\r" not in seen


def test_the_older_dialect_signs_a_device_in_once(owner: PortalClient) -> None:
    owner.sign_up()
    owner.log_in()
    started = owner.public("device/start", {}).json()
    assert (started["verify_url"], len(started["user_code"])) == (f"{owner.url}/device", 9)
    poll = {"device_code": started["device_code"]}
    assert owner.public("device/poll", poll).json() == {"status": "pending"}
    owner.session("POST", f"/device/{started['user_code']}:approve", {"scopes": ["servers:read"]})
    time.sleep(started["interval"])
    approved = owner.public("device/poll", poll).json()
    assert owner.client.get("/v1/servers", headers={"x-api-key": approved["api_key"]}).status_code == 200
    time.sleep(started["interval"])
    assert owner.public("device/poll", poll).json() == {"status": "expired"}


def test_the_sdk_hears_of_a_refusal_and_of_polls_that_are_too_frequent(owner: PortalClient) -> None:
    owner.sign_up()
    owner.log_in()
    started = owner.client.post("/v1/public/device/start", json={"client_id": "sdk"}).json()
    poll = {"grant_type": GRANT, "device_code": started["device_code"], "client_id": "sdk"}
    errors = [owner.public("device/poll", poll) for _ in range(40)]
    assert errors[0].json() == {"error": "authorization_pending"}
    assert (errors[-1].status_code, errors[-1].json()["error"]) == (400, "slow_down")
    assert errors[-1].headers["retry-after"].isdigit()
    owner.session("POST", f"/device/{started['user_code']}:refuse")
    time.sleep(int(errors[-1].headers["retry-after"]))
    assert owner.public("device/poll", poll).json() == {"error": "access_denied"}
    unknown = poll | {"device_code": "x" * 40}
    assert owner.public("device/poll", unknown).json() == {"error": "expired_token"}
