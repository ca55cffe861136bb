"""Clients of the portal through Envoy, each from its own address."""

import secrets
from typing import Any

import httpx
from support.clients.loopback import random_address

PASSWORD = "correct horse battery"


class PortalClient:
    """A client at an address of its own, as no throttle has met it before.

    It keeps the session's cookie by hand: httpx keeps secure cookies from plain HTTP, which browsers allow on loopback.
    """

    def __init__(self, url: str) -> None:
        self.address = random_address()
        self.email = f"{secrets.token_hex(6)}@example.com"
        self.url = url
        self.cookie = ""
        self.token = ""
        transport = httpx.HTTPTransport(local_address=self.address)
        self.client = httpx.Client(base_url=url, transport=transport, trust_env=False, timeout=30)

    def public(self, name: str, body: object, **headers: str) -> httpx.Response:
        return self.client.post(f"/v1/public/{name}", json=body, headers=headers)

    def credentials(self, **fields: str) -> dict[str, str]:
        return {"email": self.email, "password": PASSWORD} | fields

    def sign_up(self) -> dict[str, Any]:
        answer = self.public("signup", self.credentials())
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def session(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        sent = {"cookie": f"session={self.cookie}", "x-csrf-token": self.token, "origin": self.url} | headers
        answer = self.client.request(method, f"/v1/dashboard{path}", json=body, headers=sent)
        for cookie in answer.headers.get_list("set-cookie"):
            self.cookie = cookie.partition(";")[0].removeprefix("session=")
        return answer

    def log_in(self) -> None:
        for method, body in (("GET", None), ("POST", self.credentials())):
            answer = self.session(method, "/session", body)
            assert answer.status_code == 200, answer.text
            self.token = answer.json()["csrf_token"]


def outcome(answer: httpx.Response) -> tuple[int, Any, str | None]:
    return answer.status_code, answer.json(), answer.headers.get("retry-after")
