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
    Call("POST", "/v1/servers/s1:start", {}, {"id"}),
    Call("POST", "/v1/servers/s1:stop", {}, {"id"}),
    Call("POST", "/v1/servers/s1:restart", {}, {"id"}),
    Call("POST", "/v1/servers/s1:command", {"command": "say hi"}, {"output"}),
    Call("POST", "/v1/servers/s1:enable-sftp", {}, {"host", "username", "password"}),
    Call("GET", "/v1/servers/s1/tick-history", None, {"minutes"}),
    Call("GET", "/v1/servers/s1/logs?tail=5", None, {"lines"}),
    Call("GET", "/v1/servers/s1/files", None, {"entries"}),
    Call("GET", "/v1/servers/s1/file?path=server.properties", None, {"content"}),
    Call("GET", "/v1/servers/s1/mods/versions", None, {"versions"}),
    Call("POST", "/v1/servers/s1/backups", {}, {"id"}),
    Call("POST", "/v1/servers/s1/backups/b1:set-kept", {"kept": True}, {"id"}),
    Call("POST", "/v1/templates/survival:create", {}, {"id"}),
    Call("GET", "/v1/accounts/{account}/wallet", None, {"accountId", "balanceMicros", "currency"}),
    Call("POST", "/v1/accounts/{account}/checkout-link", {"amountMicros": 5_000_000}, {"checkoutUrl"}),
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
