"""Requests to the portal as they come from Envoy."""

import httpx
from fastapi import FastAPI
from people import PUBLIC_URL

from authz.portal.through_envoy import ADDRESS, PROOF

SECRET = "s" * 32


def client(app: FastAPI, address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url=PUBLIC_URL,
        headers={PROOF: SECRET, ADDRESS: address},
    )
