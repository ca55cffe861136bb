"""Metrics of the portal: counts of use, closed labels, a bounded number of series."""

import httpx
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.clients.portal_browser import Browser
from support.fakes.projection import MemoryProjection
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

from authz.adapters.postgres.pool import Postgres
from authz.adapters.prometheus.checks import registry
from authz.core.device import Approval
from authz.portal.envoy_only import ADDRESS, PROOF

SCOPES = frozenset({"servers:read"})


def series(use_cases: PortalUseCases) -> dict[str, float]:
    """What a scrape reads, each series as `name{label values}`, without its prefix."""
    text = generate_latest(registry(use_cases.metrics)).decode()
    return {
        f"{sample.name.removeprefix('authz_portal_')}{{{','.join(sample.labels.values())}}}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("authz_")
    }


async def test_every_outcome_is_there_before_anything_has_happened(use_cases: PortalUseCases) -> None:
    read = series(use_cases)
    for name in (
        "logins_total{right}",
        "signups_total{opened}",
        "device_grants_total{handed_out}",
        "throttled_total{device_poll,subject}",
        "store_failures_total{mail}",
    ):
        assert read[name] == 0
    assert read["authz_store_up{redis}"] == 1


async def test_logins_and_signups_are_counted_by_what_came_of_them(
    envoy: httpx.AsyncClient, use_cases: PortalUseCases
) -> None:
    given = {"email": random_email(), "password": PASSWORD}
    for wanted in (given, given, given | {"email": random_email(), "password": "short"}):
        await envoy.post("/v1/public/signup", json=wanted)
    for password in [PASSWORD, *["wrong"] * 11]:
        await envoy.post("/v1/public/login", json=given | {"password": password})
    await envoy.post("/v1/public/login", json={"email": "no address", "password": PASSWORD})
    for _ in range(9):
        await envoy.post("/v1/public/signup", json=given)
    read = series(use_cases)
    assert {outcome: read[f"logins_total{{{outcome}}}"] for outcome in ("right", "wrong", "throttled")} == {
        "right": 1,
        "wrong": 11,
        "throttled": 1,
    }
    outcomes = {name: read[f"signups_total{{{name}}}"] for name in ("opened", "email_taken", "refused", "throttled")}
    assert outcomes == {"opened": 1, "email_taken": 9, "refused": 1, "throttled": 1}
    assert read["throttled_total{login,subject}"] == 1
    assert read["throttled_total{login,address}"] == 0
    assert read["throttled_total{signup,address}"] == 1


async def test_the_steps_of_device_grants_are_counted(use_cases: PortalUseCases) -> None:
    owner = await use_cases.accounts.sign_up(random_email(), PASSWORD, random_address())
    first, second = [await use_cases.device.start(random_address(), "") for _ in range(2)]
    await use_cases.device.approve(first.user_code, Approval(owner.account_id, SCOPES), random_address())
    await use_cases.device.refuse(second.user_code, owner.account_id, random_address())
    for started in (first, first, second):
        await use_cases.device.poll(started.device_code, random_address())
    read = series(use_cases)
    steps = {step: read[f"device_grants_total{{{step}}}"] for step in ("started", "approved", "refused", "handed_out")}
    assert steps == {"started": 2, "approved": 1, "refused": 1, "handed_out": 1}


async def test_answers_are_measured_by_template_method_and_status(owner: Browser, use_cases: PortalUseCases) -> None:
    for path in ("/dashboard/keys/key_1/revoke", "/dashboard/keys/key_2/revoke", "/dashboard/static/portal.css"):
        await owner.fetch(path)
    await owner.submit("/dashboard/account", {}, action="/dashboard/logout")
    await owner.fetch("/dashboard/openapi.json")
    read = series(use_cases)
    for labels, count in (
        ("GET,/dashboard/keys/{key_id}/revoke,404", 2),
        ("GET,/dashboard/static,200", 1),
        ("GET,/dashboard/openapi.json,200", 1),
        ("POST,/dashboard/logout,303", 1),
    ):
        assert read[f"request_duration_seconds_count{{{labels}}}"] == count, labels
        assert read[f"request_duration_seconds_sum{{{labels}}}"] > 0


async def test_a_crash_counts_once_as_one(
    envoy: httpx.AsyncClient, use_cases: PortalUseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(_account_id: str) -> None:
        raise RuntimeError

    monkeypatch.setattr(use_cases.ledger, "contact", crash)
    await envoy.get("/v1/whoami", headers={"x-authz-account-id": "acct_1"})
    counts = {
        name: count for name, count in series(use_cases).items() if name.startswith("request_duration_seconds_coun")
    }
    assert counts == {"request_duration_seconds_count{GET,/v1/whoami,500}": 1}


async def test_whatever_strangers_send_makes_no_series_of_its_own(
    envoy: httpx.AsyncClient, use_cases: PortalUseCases
) -> None:
    headers = {PROOF: envoy.headers[PROOF], ADDRESS: random_address()}
    for number in range(30):
        await envoy.request(f"METHOD{number}", f"/nowhere/{number}", headers=headers)
        await envoy.request(f"METHOD{number}", "/v1/whoami", headers=headers)
        await envoy.get(f"/dashboard/{number}", headers={PROOF: str(number)})
        await envoy.get(f"/dashboard/static/{number}")
    counts = {name for name in series(use_cases) if name.startswith("request_duration_seconds_count")}
    assert counts == {
        "request_duration_seconds_count{other,unmatched,404}",
        "request_duration_seconds_count{other,/v1/whoami,405}",
        "request_duration_seconds_count{GET,unmatched,403}",
        "request_duration_seconds_count{GET,/dashboard/static,404}",
    }
    assert "nowhere" not in "".join(series(use_cases))


async def test_requests_during_a_store_outage_are_counted(
    owner: Browser, use_cases: PortalUseCases, postgres: Postgres
) -> None:
    made = await owner.submit("/dashboard/keys/new", {"name": "x", "scope": ["servers:read"], "life": ""})
    assert made.status_code == 200
    (account,) = await use_cases.admin.accounts()
    (key,) = await use_cases.admin.keys(account.id)
    projection = use_cases.admin._projection  # noqa: SLF001 -- the store that goes away
    assert isinstance(projection, MemoryProjection)
    projection.is_down = True
    assert (await owner.submit(f"/dashboard/keys/{key.id}/revoke", {})).status_code == 503
    await postgres.close()
    assert (await owner.fetch("/dashboard/keys")).status_code == 503
    read = series(use_cases)
    assert (read["store_failures_total{redis}"], read["store_failures_total{postgres}"]) == (1, 1)
