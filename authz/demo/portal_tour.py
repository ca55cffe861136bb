"""The portal part of the tour, through Envoy: signup, keys and device approval.

Each step contains its expectation; `tour.py` prints the outcomes.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import httpx

from authz.demo.stack import Stack

Outcome: TypeAlias = tuple[str, Mapping[str, Any], Mapping[str, Any]]
"""The title of a step, the expected response and the actual one."""

_SCOPES = ["servers:read", "billing:read"]
_COOKIE = re.compile(r"session=([^;]*)")


class PortalTour:
    """Uses the portal as a new owner, with the cookie of a browser and the requests of a command."""

    def __init__(self, client: httpx.Client, stack: Stack) -> None:
        self._client = client
        self._login = {"email": f"grace-{secrets.token_hex(3)}@example.com", "password": secrets.token_urlsafe(12)}
        self._origin = stack.url
        self._cookie = ""
        self._token = ""

    def outcomes(self) -> Iterator[Outcome]:
        """Run all steps."""
        yield from self._sign_up()
        yield from self._keys()
        yield from self._device()

    def _sign_up(self) -> Iterator[Outcome]:
        signed_up = self._public("signup", self._login)
        yield "200 sign up", {"status": 200, "api_key": "*", "email": self._login["email"]}, signed_up
        again = self._public("signup", self._login)
        yield "409 sign up again", {"status": 409, "error": "email already registered"}, again
        wrong = self._public("login", self._login | {"password": "wrong"})
        yield "401 a wrong password", {"status": 401, "error": "invalid email or password"}, wrong
        whoami = self._keyed("/v1/whoami", signed_up["api_key"])
        yield "200 whoami", {"status": 200, "accountId": signed_up["account_id"], "emailVerified": False}, whoami

    def _keys(self) -> Iterator[Outcome]:
        nobody = self._session("GET", "/session")
        # Without the form token, which only a page of the portal can read.
        yield "403 a login from another page", {"status": 403}, self._session("POST", "/session", {})
        self._token = nobody["csrf_token"]
        session = self._session("POST", "/session", self._login)
        self._token = session["csrf_token"]
        yield "200 log in to the dashboard", {"status": 200, "email": self._login["email"]}, session
        made = self._session("POST", "/keys", {"name": "tour", "scopes": _SCOPES})
        yield "200 create a key", {"status": 200, "api_key": "*"}, made
        yield "200 call the API with it", {"status": 200}, self._keyed("/v1/servers", made["api_key"])
        revoked = self._session("POST", f"/keys/{made['key']['id']}:revoke")
        yield "204 revoke it", {"status": 204}, revoked
        yield "401 call the API with it", {"status": 401}, self._keyed("/v1/servers", made["api_key"])

    def _device(self) -> Iterator[Outcome]:
        started = self._public("device/start", {})
        yield "200 a device starts a login", {"status": 200, "user_code": "*"}, started
        poll = {"device_code": started["device_code"]}
        pending = self._public("device/poll", poll)
        yield "200 it waits for approval", {"status": 200, "body": {"status": "pending"}}, pending
        path = f"/device/{started['user_code']}"
        shown = self._session("GET", path)
        yield "200 the owner looks at the device", {"status": 200, "user_code": started["user_code"]}, shown
        approved = self._session("POST", f"{path}:approve", {"scopes": ["servers:read"]})
        yield "204 the owner approves it", {"status": 204}, approved
        polled = self._public("device/poll", poll)
        yield "200 the device receives a key", {"status": 200, "api_key": "*"}, polled
        yield "200 the key works", {"status": 200}, self._keyed("/v1/servers", polled["api_key"])
        again = self._public("device/poll", poll)
        yield "200 the key is returned only once", {"status": 200, "body": {"status": "expired"}}, again

    def _public(self, name: str, body: object) -> dict[str, Any]:
        return _facts(self._client.post(f"/v1/public/{name}", json=body))

    def _keyed(self, path: str, api_key: str) -> dict[str, Any]:
        return _facts(self._client.get(path, headers={"x-api-key": api_key}))

    def _session(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        headers = {"x-csrf-token": self._token, "cookie": f"session={self._cookie}", "origin": self._origin}
        answer = self._client.request(method, f"/v1/dashboard{path}", json=body, headers=headers)
        # Set here: the cookie jar of httpx does not send Secure cookies over plain HTTP, which browsers do on loopback.
        if found := _COOKIE.search(answer.headers.get("set-cookie", "")):
            self._cookie = found[1]
        return _facts(answer)


def _facts(answer: httpx.Response) -> dict[str, Any]:
    document = answer.json() if answer.content else None
    fields = document if isinstance(document, dict) else {}
    return {**fields, "body": document, "status": answer.status_code}
