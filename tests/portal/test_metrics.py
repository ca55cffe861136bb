"""What Prometheus reads of the portal: what people came for, closed labels, a bounded number of series."""

import httpx
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.clients.portal_requests import Browser
from support.fakes.portal import PASSWORD, People, an_address, an_email
from support.fakes.projection import MemoryProjection

from authz.adapters.postgres.pool import Postgres
from authz.adapters.prometheus.checks import registry
from authz.core.device import Approval
from authz.portal.envoy_only import ADDRESS, PROOF

SCOPES = frozenset({"servers:read"})


def series(people: People) -> dict[str, float]:
    """What a scrape reads, each series as `name{label values}`, without its prefix."""
    text = generate_latest(registry(people.metrics)).decode()
    return {
        f"{sample.name.removeprefix('authz_portal_')}{{{','.join(sample.labels.values())}}}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("authz_")
    }


async def test_every_outcome_is_there_before_anything_has_happened(people: People) -> None:
    read = series(people)
    for name in (
        "logins_total{right}",
        "signups_total{opened}",
        "device_grants_total{handed_out}",
        "throttled_total{device_poll,subject}",
        "store_failures_total{mail}",
    ):
        assert read[name] == 0
    assert read["authz_store_up{redis}"] == 1


async def test_logins_and_signups_are_counted_by_what_came_of_them(envoy: httpx.AsyncClient, people: People) -> None:
    given = {"email": an_email(), "password": PASSWORD}
    for wanted in (given, given, given | {"email": an_email(), "password": "short"}):
        await envoy.post("/v1/public/signup", json=wanted)
    for password in [PASSWORD, *["wrong"] * 11]:
        await envoy.post("/v1/public/login", json=given | {"password": password})
    await envoy.post("/v1/public/login", json={"email": "no address", "password": PASSWORD})
    for _ in range(9):
        await envoy.post("/v1/public/signup", json=given)
    read = series(people)
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


async def test_the_steps_of_device_grants_are_counted(people: People) -> None:
    owner = await people.accounts.sign_up(an_email(), PASSWORD, an_address())
    first, second = [await people.device.start(an_address(), "") for _ in range(2)]
    await people.device.approve(first.user_code, Approval(owner.account_id, SCOPES), an_address())
    await people.device.refuse(second.user_code, owner.account_id, an_address())
    for started in (first, first, second):
        await people.device.poll(started.device_code, an_address())
    read = series(people)
    steps = {step: read[f"device_grants_total{{{step}}}"] for step in ("started", "approved", "refused", "handed_out")}
    assert steps == {"started": 2, "approved": 1, "refused": 1, "handed_out": 1}


async def test_answers_are_measured_by_template_method_and_status(owner: Browser, people: People) -> None:
    for path in ("/dashboard/keys/key_1/revoke", "/dashboard/keys/key_2/revoke", "/dashboard/static/portal.css"):
        await owner.see(path)
    await owner.send("/dashboard/account", {}, action="/dashboard/logout")
    await owner.see("/dashboard/openapi.json")
    read = series(people)
    for labels, count in (
        ("GET,/dashboard/keys/{key_id}/revoke,404", 2),
        ("GET,/dashboard/static,200", 1),
        ("GET,/dashboard/openapi.json,200", 1),
        ("POST,/dashboard/logout,303", 1),
    ):
        assert read[f"request_duration_seconds_count{{{labels}}}"] == count, labels
        assert read[f"request_duration_seconds_sum{{{labels}}}"] > 0


async def test_a_crash_counts_once_as_one(
    envoy: httpx.AsyncClient, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(_account_id: str) -> None:
        raise RuntimeError

    monkeypatch.setattr(people.ledger, "contact", crash)
    await envoy.get("/v1/whoami", headers={"x-authz-account-id": "acct_1"})
    counts = {name: count for name, count in series(people).items() if name.startswith("request_duration_seconds_coun")}
    assert counts == {"request_duration_seconds_count{GET,/v1/whoami,500}": 1}


async def test_whatever_strangers_send_makes_no_series_of_its_own(envoy: httpx.AsyncClient, people: People) -> None:
    headers = {PROOF: envoy.headers[PROOF], ADDRESS: an_address()}
    for number in range(30):
        await envoy.request(f"METHOD{number}", f"/nowhere/{number}", headers=headers)
        await envoy.request(f"METHOD{number}", "/v1/whoami", headers=headers)
        await envoy.get(f"/dashboard/{number}", headers={PROOF: str(number)})
        await envoy.get(f"/dashboard/static/{number}")
    counts = {name for name in series(people) if name.startswith("request_duration_seconds_count")}
    assert counts == {
        "request_duration_seconds_count{other,unmatched,404}",
        "request_duration_seconds_count{other,/v1/whoami,405}",
        "request_duration_seconds_count{GET,unmatched,403}",
        "request_duration_seconds_count{GET,/dashboard/static,404}",
    }
    assert "nowhere" not in "".join(series(people))


async def test_requests_that_meet_a_store_out_of_reach_are_counted(
    owner: Browser, people: People, postgres: Postgres
) -> None:
    made = await owner.send("/dashboard/keys/new", {"name": "x", "scope": ["servers:read"], "life": ""})
    assert made.status_code == 200
    (account,) = await people.admin.accounts()
    (key,) = await people.admin.keys(account.id)
    projection = people.admin._projection  # noqa: SLF001 -- the store that goes away
    assert isinstance(projection, MemoryProjection)
    projection.is_down = True
    assert (await owner.send(f"/dashboard/keys/{key.id}/revoke", {})).status_code == 503
    await postgres.close()
    assert (await owner.see("/dashboard/keys")).status_code == 503
    read = series(people)
    assert (read["store_failures_total{redis}"], read["store_failures_total{postgres}"]) == (1, 1)
