"""The admin endpoints, over a real socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.builders import request

from authz.adapters.prometheus.checks import Metrics, registry
from authz.core.check import Allow, Deny
from authz.core.errors import DenyReason
from authz.core.policy.route import Access, Route
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


OPENMETRICS, TEXT = "application/openmetrics-text", "text/plain; version=0.0.4"
FIRST = f"{OPENMETRICS}; version=1.0.0"
PARSERS = {OPENMETRICS: openmetrics.text_string_to_metric_families, "text/plain": text_string_to_metric_families}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (
            f"{OPENMETRICS};version=1.0.0,{OPENMETRICS};version=0.0.1;q=0.75,text/plain;q=0.5",
            f"{OPENMETRICS}; version=1.0.0",
        ),
        (f"{OPENMETRICS}; version=2.0.0; escaping=allow-utf-8", f"{OPENMETRICS}; version=2.0.0"),
        (f"{OPENMETRICS}; version=abc", TEXT),
        (f"{OPENMETRICS}; version=9.9.9", TEXT),
        (f"{OPENMETRICS}; version=1.0.0; escaping=none-known", FIRST),
        (f"{OPENMETRICS}; version=", FIRST),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", TEXT),
        (",;=/" * 200, TEXT),
    ],
)
async def test_metrics_have_a_known_format_whatever_a_client_accepts(
    client: httpx.AsyncClient, accept: str, content_type: str
) -> None:
    answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(content_type)
    parse = (
        openmetrics.text_string_to_metric_families if OPENMETRICS in content_type else text_string_to_metric_families
    )
    assert "authz_checks" in {family.name for family in parse(answer.text)}


@pytest.mark.parametrize("template", ['/a"b', "/a\\b", "/a\nb", "/\u2028", "/{", "/\u00e9"])
async def test_a_template_with_any_character_is_one_label(template: str) -> None:
    metrics = Metrics(lambda: CONDITIONS)
    metrics.decided([(1, request(), Allow(Route("GET", template, Access.ANY)))], 0.001)
    for accept, parse in PARSERS.items():
        text = choose_encoder(accept)[0](registry(metrics).snapshot()).decode()
        (family,) = [family for family in parse(text) if family.name == "authz_checks"]
        assert [(sample.labels["route"], sample.value) for sample in family.samples] == [(template, 1)]


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
