"""The pages about keys in a browser without scripts: making, replacing, stopping, ending; and nothing of another's."""

import re
from datetime import UTC, datetime, timedelta

import httpx
from fastapi import FastAPI
from support.clients.portal_browser import Browser, client, key_ids, make_key, secret_of
from support.fakes.projection import MemoryProjection
from support.portal_use_cases import PASSWORD, PortalUseCases, random_address, random_email

from authz.core.accounts import Actor, AuditEvent
from authz.portal.pages import state
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
    assert "Keys that no longer work (60)" in page
    assert "The latest 50 keys that no longer work" in page
    shown = re.findall(r">job ([0-9]+)<", page)
    assert shown == [str(number) for number in range(59, 9, -1)]
