"""The admin endpoints, over a real socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.builders import request

from authz.adapters.prometheus.checks import Metrics, registry
from authz.core.check import Deny
from authz.core.errors import DenyReason
from authz.edge.admin.server import AdminServer

CONDITIONS = {"redis": True, "postgres": True}


@pytest.fixture
async def admin() -> AsyncIterator[AdminServer]:
    metrics = Metrics(lambda: CONDITIONS)
    metrics.decided([(1, request(), Deny(DenyReason.KEY_MISSING))], 0.001)
    server = AdminServer(registry(metrics), lambda: CONDITIONS, "127.0.0.1:0")
    server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(admin: AdminServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin.port}", trust_env=False) as client:
        yield client


async def test_metrics_are_served_in_prometheus_own_format(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'authz_checks_total{outcome="deny",reason="key_missing",route="unmatched"} 1.0' in answer.text


async def test_a_live_process_is_healthy(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).status_code == 200


async def test_readiness_names_what_is_missing(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await client.get("/readyz")).status_code == 200
    monkeypatch.setitem(CONDITIONS, "redis", False)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"redis": False, "postgres": True}


async def test_nothing_else_is_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).status_code == 404
    assert (await client.post("/metrics")).status_code == 405


async def test_a_unix_socket_serves_too(scratch: Path) -> None:
    path = scratch / "admin.sock"
    server = AdminServer(registry(Metrics(dict)), dict, f"unix:{path}")
    assert server.port == 0
    server.start()
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://admin") as client:
        assert (await client.get("/healthz")).text == "ok\n"
    await server.stop()
