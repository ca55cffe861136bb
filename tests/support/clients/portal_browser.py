"""Requests to the portal as they come from Envoy."""

import re
from collections.abc import Mapping, Sequence
from html import unescape

import httpx
from fastapi import FastAPI
from support.portal_use_cases import PUBLIC_URL

from authz.portal.envoy_only import ADDRESS, PROOF

SECRET = "s" * 32


def client(app: FastAPI, address: str) -> httpx.AsyncClient:
    """A client at an address. If the application's state says how, each response waits for the mails it causes."""

    async def wait_for_mails(_response: httpx.Response) -> None:
        if hasattr(app.state, "settled"):
            await app.state.settled()

    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url=PUBLIC_URL,
        headers={PROOF: SECRET, ADDRESS: address},
        event_hooks={"response": [wait_for_mails]},
    )


class Browser:
    """A browser that fills in our forms: it keeps the cookie and sends each form's CSRF token."""

    def __init__(self, through: httpx.AsyncClient) -> None:
        self.client = through

    async def fetch(self, path: str) -> httpx.Response:
        return await self.client.get(path)

    async def submit(self, page: str, fields: Mapping[str, Sequence[str]], action: str = "") -> httpx.Response:
        """Open a page, fill in its form, and send it with the Origin header that a browser sends."""
        token = token_of((await self.client.get(page)).text)
        headers = {"origin": PUBLIC_URL, "sec-fetch-site": "same-origin"}
        return await self.client.post(
            action or page.partition("?")[0], data={"token": token, **fields}, headers=headers
        )

    async def sign_up(self, email: str, password: str) -> httpx.Response:
        return await self.submit("/dashboard/signup", {"email": email, "password": password})

    async def log_in(self, email: str, password: str, **fields: str) -> httpx.Response:
        return await self.submit("/dashboard/login", {"email": email, "password": password, **fields})


def token_of(page: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f]{64})"', page)
    assert found, page
    return found[1]


def secret_of(page: str) -> str:
    found = re.search(r'id="api-key"[^>]* value="([^"]+)"', page)
    assert found, page
    return unescape(found[1])


async def make_key(browser: Browser, name: str = "ci", *scopes: str, life: str = "90") -> str:
    page = await browser.submit(
        "/dashboard/keys/new", {"name": name, "scope": list(scopes or ["servers:read"]), "life": life}
    )
    assert page.status_code == 200, page.text
    return secret_of(page.text)


def key_ids(page: str) -> list[str]:
    return re.findall(r"/dashboard/keys/(key_[a-z0-9]+)/revoke", page)
