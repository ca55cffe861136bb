"""The portal as an ASGI application over the real stores, with requests as Envoy sends them."""

import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from support.builders import policy
from support.clients.portal_browser import SECRET, Browser, client
from support.fakes.projection import MemoryProjection
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email
from support.servers.postgres import emptied

from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.pool import Postgres
from authz.adapters.redis.connection.link import RedisLink
from authz.demo.servers import RedisServer
from authz.portal.app import application
from authz.service.keys.admin import KeyAdmin


@pytest.fixture
async def postgres(portal_database_url: str) -> AsyncIterator[Postgres]:
    await emptied(portal_database_url)
    postgres = Postgres(portal_database_url, deadline_s=30, connect_s=30, pool_max=10)
    await postgres.start()
    yield postgres
    await postgres.close()


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    link = RedisLink(redis_url, deadline_s=30, in_flight_max=20_000)
    link.start()
    await link.reached.wait()
    yield link
    await link.close()


@pytest.fixture
def use_cases(postgres: Postgres, link: RedisLink) -> PortalUseCases:
    admin = KeyAdmin(
        PostgresKeys(postgres), MemoryProjection(), policy(), entropy=os.urandom, now=lambda: datetime.now(UTC)
    )
    return PortalUseCases(postgres, link, admin)


@pytest.fixture
def app(use_cases: PortalUseCases) -> FastAPI:
    app = application(use_cases.services(), proxy_secret=SECRET, readiness=lambda: {"redis": True})
    app.state.settled = use_cases.supervisor.settled
    return app


@pytest.fixture
async def envoy(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """What Envoy sends for a client at an address of its own."""
    async with client(app, random_address()) as through:
        yield through


@pytest.fixture
async def visitor(app: FastAPI) -> AsyncIterator[Browser]:
    async with client(app, random_address()) as through:
        yield Browser(through)


@pytest.fixture
async def owner(app: FastAPI) -> AsyncIterator[Browser]:
    """A browser that is logged in to an account of its own."""
    async with client(app, random_address()) as through:
        browser = Browser(through)
        assert (await browser.sign_up(random_email(), PASSWORD)).status_code == 303
        yield browser


@pytest.fixture
def redis_server(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder)
    server.start()
    yield server
    server.stop()
