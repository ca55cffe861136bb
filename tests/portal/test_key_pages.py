"""The pages about keys in a browser without scripts: making, replacing, stopping, ending; and nothing of another's."""

import re
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from support.clients.portal_browser import Browser, client, key_ids, make_key, secret_of
from support.fakes.projection import MemoryProjection
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Actor, AuditEvent
from authz.core.throttles import Attempt
from authz.portal.pages.rendering import state
from authz.service.keys.admin import KeyRequest

ME = Actor("operator", "local")


async def test_a_key_from_the_first_visit_to_its_end(visitor: Browser, use_cases: PortalUseCases) -> None:
    email = random_email()
    assert (await visitor.fetch("/dashboard")).headers["location"] == "/dashboard/keys"
    assert (await visitor.fetch("/dashboard/keys")).headers["location"] == "/dashboard/login?next=%2Fdashboard%2Fkeys"
    assert (await visitor.sign_up(email, PASSWORD)).headers["location"] == "/dashboard/keys"
    assert "You have no key yet" in (await visitor.fetch("/dashboard/keys")).text

    secret = await make_key(visitor, "backup job", "servers:read", "billing:read")
    listed = (await visitor.fetch("/dashboard/keys")).text
    assert "backup job" in listed
    assert f"…{secret[-4:]}" in listed
    assert secret not in listed
    (key_id,) = key_ids(listed)
    key = await use_cases.admin.key(key_id)
    assert key.scopes == {"servers:read", "billing:read"}
    assert key.expires_at is not None
    assert abs(key.expires_at - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)

    assert "stops working at once" in (await visitor.fetch(f"/dashboard/keys/{key_id}/revoke")).text
    revoked = await visitor.submit(f"/dashboard/keys/{key_id}/revoke", {})
    assert "has been revoked" in (await visitor.fetch(revoked.headers["location"])).text
    assert key_ids((await visitor.fetch("/dashboard/keys")).text) == []

    trail = (await visitor.fetch("/dashboard/activity")).text
    events = re.findall(r'<th scope="row">([^<]+)</th>', trail)
    assert events == ["Key revoked", "Key created", "Account created"]
    left = await visitor.submit("/dashboard/keys", {}, action="/dashboard/logout")
    assert left.headers["location"] == "/dashboard/login"
    assert (await visitor.fetch("/dashboard/keys")).status_code == 303
    back = await visitor.log_in(email, PASSWORD, next="/dashboard/activity")
    assert back.headers["location"] == "/dashboard/activity"
    assert "Logged in" in (await visitor.fetch("/dashboard/activity")).text


async def test_a_key_is_replaced_by_a_new_one_beside_which_it_goes_on(
    owner: Browser, use_cases: PortalUseCases
) -> None:
    old = await make_key(owner, "deploy", "billing:read")
    (key_id,) = key_ids((await owner.fetch("/dashboard/keys")).text)
    path = f"/dashboard/keys/{key_id}/rotate"
    assert old[-4:] in (await owner.fetch(path)).text
    odd = await owner.submit(path, {"overlap": "1"})
    assert (odd.status_code, "choose when the old key stops working" in odd.text) == (400, True)
    page = (await owner.submit(path, {"overlap": "3600"})).text
    assert "works until" in page
    assert secret_of(page) != old
    (account,) = await use_cases.admin.accounts()
    first, second = await use_cases.admin.keys(account.id)
    assert first.expires_at is not None
    assert abs(first.expires_at - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
    assert (second.name, second.hint[-4:]) == ("deploy", secret_of(page)[-4:])
    assert second.scopes == {"billing:read"}
    again = await owner.submit(path, {"overlap": "0"})
    assert (again.status_code, "replaced" in again.text) == (400, True)
    at_once = await owner.submit(f"/dashboard/keys/{second.id}/rotate", {"overlap": "0"})
    assert "has been revoked" in at_once.text
    assert (await use_cases.admin.key(second.id)).revoked_at is not None


async def test_a_key_is_stopped_for_a_while(owner: Browser) -> None:
    await make_key(owner, "nightly")
    (key_id,) = key_ids((await owner.fetch("/dashboard/keys")).text)
    path = f"/dashboard/keys/{key_id}"
    asked = (await owner.fetch(f"{path}/disable")).text
    assert "stops working at once" in asked
    assert "until you enable it again" in asked
    stopped = await owner.submit(f"{path}/disable", {})
    assert "has been disabled" in (listed := await owner.fetch(stopped.headers["location"])).text
    assert '<span class="tag disabled">disabled</span>' in listed.text
    assert f"{path}/rotate" not in listed.text
    refused = await owner.submit(f"{path}/rotate", {"overlap": "0"})
    assert (refused.status_code, "enable it first" in refused.text) == (400, True)
    started = await owner.submit("/dashboard/keys", {}, action=f"{path}/enable")
    assert "works again" in (await owner.fetch(started.headers["location"])).text
    trail = (await owner.fetch("/dashboard/activity")).text
    assert re.findall(r'<th scope="row">([^<]+)</th>', trail)[:2] == ["Key enabled", "Key disabled"]


async def test_whom_an_operator_has_stopped_only_an_operator_starts(owner: Browser, use_cases: PortalUseCases) -> None:
    await make_key(owner)
    (key_id,) = key_ids((await owner.fetch("/dashboard/keys")).text)
    path = f"/dashboard/keys/{key_id}"

    async def enabled() -> httpx.Response:
        return await owner.submit("/dashboard/keys", {}, action=f"{path}/enable")

    await owner.submit(f"{path}/disable", {})
    await use_cases.admin.change_key(key_id, AuditEvent.KEY_DISABLED, ME)
    await owner.submit("/dashboard/keys", {}, action=f"{path}/disable")  # makes it none the more its owner's
    refused = await enabled()
    assert (refused.status_code, "disabled by an operator" in refused.text) == (400, True)
    assert (await use_cases.admin.key(key_id)).disabled_at is not None
    await use_cases.admin.change_key(key_id, AuditEvent.KEY_ENABLED, ME)
    await owner.submit(f"{path}/disable", {})
    assert (await enabled()).status_code == 303
    assert (await use_cases.admin.key(key_id)).disabled_at is None


async def test_a_revoked_key_is_not_started_again(owner: Browser) -> None:
    await make_key(owner)
    (key_id,) = key_ids((await owner.fetch("/dashboard/keys")).text)
    await owner.submit(f"/dashboard/keys/{key_id}/revoke", {})
    refused = await owner.submit("/dashboard/keys/new", {}, action=f"/dashboard/keys/{key_id}/enable")
    assert (refused.status_code, "revoked, for good" in refused.text) == (400, True)


async def test_a_key_that_the_rules_do_not_permit_is_refused_in_words(owner: Browser) -> None:
    async def refusal(**fields: str | list[str]) -> str:
        page = await owner.submit("/dashboard/keys/new", {"name": "x", "scope": ["servers:read"], "life": ""} | fields)
        assert page.status_code == 400
        return page.text

    assert "a key needs at least one scope" in await refusal(scope=[])
    assert "there is no scope servers:raed" in await refusal(scope=["servers:raed"])
    assert "a name is 1 to 100 printable characters" in await refusal(name=" ")
    assert "choose when the key expires" in await refusal(life="10000")
    typed = await refusal(scope=[], name="<b>bold</b>")
    assert "&lt;b&gt;bold&lt;/b&gt;" in typed
    assert "<b>" not in typed


async def test_a_full_account_gets_its_own_message(owner: Browser) -> None:
    for _ in range(25):
        await make_key(owner)
    page = await owner.submit("/dashboard/keys/new", {"name": "x", "scope": ["servers:read"], "life": ""})
    assert page.status_code == 429
    assert "api key limit reached (max 25 per account)" in page.text


async def test_the_keys_of_another_account_are_not_there(
    app: FastAPI, owner: Browser, use_cases: PortalUseCases
) -> None:
    await make_key(owner, "mine")
    (key_id,) = key_ids((await owner.fetch("/dashboard/keys")).text)
    async with client(app, random_address()) as through:
        other = Browser(through)
        await other.sign_up(random_email(), PASSWORD)
        for action in ("rotate", "disable", "enable", "revoke"):
            path = f"/dashboard/keys/{key_id}/{action}"
            assert (await other.fetch(path)).status_code == (405 if action == "enable" else 404)
            assert (await other.submit("/dashboard/keys", {"overlap": "0"}, action=path)).status_code == 404
    (account, _) = await use_cases.admin.accounts()
    assert len(await use_cases.admin.keys(account.id)) == 1
    untouched = await use_cases.admin.key(key_id)
    assert (untouched.revoked_at, untouched.disabled_at) == (None, None)


async def test_keys_in_every_state_are_told_apart(owner: Browser, use_cases: PortalUseCases) -> None:
    await make_key(owner)
    (key_id,) = key_ids((await owner.fetch("/dashboard/keys")).text)
    await use_cases.admin.change_key(key_id, AuditEvent.KEY_DISABLED, ME)
    assert '<span class="tag disabled">disabled</span>' in (await owner.fetch("/dashboard/keys")).text
    await use_cases.admin.change_key(key_id, AuditEvent.KEY_REVOKED, ME)
    assert state(await use_cases.admin.key(key_id)) == "revoked"
    assert "Keys that no longer work (1)" in (await owner.fetch("/dashboard/keys")).text


async def test_a_revocation_that_has_to_wait_for_a_store_says_so(owner: Browser, use_cases: PortalUseCases) -> None:
    await make_key(owner)
    (key_id,) = key_ids((await owner.fetch("/dashboard/keys")).text)
    projection = use_cases.admin._projection  # noqa: SLF001 -- the store that goes away
    assert isinstance(projection, MemoryProjection)
    projection.is_down = True
    page = await owner.submit(f"/dashboard/keys/{key_id}/revoke", {})
    assert (page.status_code, page.headers["retry-after"]) == (503, "1")
    assert "The change is saved" in page.text
    assert (await use_cases.admin.key(key_id)).revoked_at is not None


async def test_an_account_with_a_past_lists_its_latest_keys(owner: Browser, use_cases: PortalUseCases) -> None:
    (account,) = await use_cases.admin.accounts()
    for number in range(60):
        request = KeyRequest(account.id, f"job {number}", frozenset({"servers:read"}))
        key = (await use_cases.admin.create_key(request, ME)).key
        await use_cases.admin.change_key(key.id, AuditEvent.KEY_REVOKED, ME)
    await make_key(owner, "now")
    page = (await owner.fetch("/dashboard/keys")).text
    assert "1 of at most 25 keys" in page
    assert "Keys that no longer work (50, and older ones)" in page
    assert "Keys that no longer work, newest first" in page
    shown = re.findall(r">job ([0-9]+)<", page)
    assert shown == [str(number) for number in range(59, 9, -1)]


async def test_keys_that_have_ended_come_in_pages(
    owner: Browser, use_cases: PortalUseCases, postgres: Postgres
) -> None:
    (account,) = await use_cases.admin.accounts()
    async with postgres.transaction() as connection:
        await connection.execute(
            "INSERT INTO api_keys (id, account_id, digest, name, hint, scopes, created_at, revoked_at) "
            "SELECT 'key_dead' || n, $1, sha256(n::text::bytea), 'dead ' || n, 'ttk_…dead', '{servers:read}', "
            "now() - interval '1 d' + n * interval '1 ms', now() FROM generate_series(1, 10000) n",
            account.id,
        )
    await make_key(owner, "alive", "servers:read")
    started_s = time.monotonic()
    first = (await owner.fetch("/dashboard/keys")).text
    assert time.monotonic() - started_s < 2
    assert "alive" in first
    assert first.count(">dead ") == 50
    older = re.search(r'href="(/dashboard/keys\?before=[^"]+)"', first)
    assert older
    second = (await owner.fetch(older[1])).text
    assert ("dead 9950<" in second, "dead 9951<" in second, "alive" in second) == (True, False, False)
    assert 'href="/dashboard/keys"' in second
    api = (await owner.fetch("/v1/dashboard/keys")).json()
    assert (len(api), api[0]["name"], api[1]["name"]) == (100, "alive", "dead 10000")
    api = (await owner.fetch(f"/v1/dashboard/keys?before={api[-1]['id']}")).json()
    assert api[0]["name"] == "dead 9901"
    assert (await owner.fetch("/dashboard/keys?before=key_of_nobody")).status_code == 200


@pytest.mark.parametrize("target", ["?before=%00", "?before=key%00", "?%00=1", "/key%00/rotate", "/%00:rotate"])
@pytest.mark.parametrize("path", ["/dashboard/keys", "/v1/dashboard/keys"])
async def test_a_target_with_a_nul_is_refused_before_postgres_is_asked(owner: Browser, path: str, target: str) -> None:
    assert (await owner.fetch(path + target)).status_code == 400


async def test_too_many_new_keys_are_a_429_with_a_time_to_wait(owner: Browser, use_cases: PortalUseCases) -> None:
    (account,) = await use_cases.admin.accounts()
    for _ in range(30):
        await use_cases.gate.admit(Attempt.KEY_CREATION, address=random_address(), subject=account.id)
    page = await owner.submit("/dashboard/keys/new", {"name": "one more", "scope": "servers:read", "life": "90"})
    assert (page.status_code, page.headers["retry-after"]) == (429, "600")
    assert "too many new keys, try again later" in page.text
