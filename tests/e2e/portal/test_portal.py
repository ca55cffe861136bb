"""The portal behind the real Envoy and sidecar: bodies and waits of the contract, and which requests arrive at it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import httpx
import pytest
from support.clients.portal_client import PortalClient, outcome
from support.clients.raw_http import send
from support.servers.stack import ALL_SCOPES

from authz.core.accounts import Actor, AuditEvent
from authz.demo.stack import Stack

LIMIT = "api key limit reached (max 25 per account); revoke an unused key first"
OWN_SURFACE = [
    ("GET", "/dashboard"),
    ("GET", "/dashboard/keys"),
    ("POST", "/dashboard/login"),
    ("GET", "/dashboard/static/portal.css"),
    ("GET", "/device"),
    ("POST", "/device/decision"),
    ("GET", "/v1/dashboard/session"),
    ("POST", "/v1/dashboard/keys"),
    ("DELETE", "/v1/dashboard/session"),
]


@pytest.fixture
def caller(portal_stack: Stack) -> Iterator[PortalClient]:
    caller = PortalClient(portal_stack.url)
    yield caller
    caller.client.close()


def test_a_signup_gives_a_key_with_every_scope_that_works_at_once(caller: PortalClient) -> None:
    document = caller.sign_up()
    key = {"x-api-key": document["api_key"]}
    assert document == {**document, "email": caller.email, "email_verified": False}
    answer = caller.client.get("/v1/whoami", headers=key | {"x-authz-account-id": "acct_forged"})
    assert outcome(answer) == (
        200,
        {"accountId": document["account_id"], "email": caller.email, "emailVerified": False},
        None,
    )
    assert caller.client.get("/v1/servers", headers=key).status_code == 200
    assert caller.client.post("/v1/servers/s1:command", headers=key).status_code == 200


def test_signups_are_refused_in_the_contracts_words(caller: PortalClient) -> None:
    caller.sign_up()
    again = outcome(caller.public("signup", caller.credentials()))
    assert again == (409, {"error": "email already registered"}, None)
    for number in range(8):
        # Whatever a client says about its address, it is Envoy that knows it.
        caller.public("signup", caller.credentials(), **{"x-forwarded-for": f"198.51.100.{number}"})
    forged = {"x-forwarded-for": "198.51.100.77", "x-authz-client-address": "198.51.100.77", "x-real-ip": "1.1.1.1"}
    late = outcome(caller.public("signup", caller.credentials(), **forged))
    assert late == (429, {"error": "too many signups, try again later"}, "3600")


def test_logins_are_refused_in_the_contracts_words(caller: PortalClient) -> None:
    caller.sign_up()
    for _ in range(10):
        wrong = outcome(caller.public("login", caller.credentials(password="wrong")))
        assert wrong == (401, {"error": "invalid email or password"}, None)
    late = outcome(caller.public("login", caller.credentials()))
    assert late == (429, {"error": "too many attempts, try again later"}, "600")


def test_device_starts_are_refused_in_the_contracts_words(caller: PortalClient) -> None:
    for _ in range(10):
        assert caller.public("device/start", {}).status_code == 200
    assert outcome(caller.public("device/start", {})) == (429, {"error": "too many requests"}, "60")


def test_polls_are_slowed_down_in_the_contracts_words(caller: PortalClient) -> None:
    device_code = caller.public("device/start", {}).json()["device_code"]
    for _ in range(8):
        answer = caller.public("device/poll", {"device_code": device_code})
        assert outcome(answer) == (200, {"status": "pending"}, None)
    answer = caller.public("device/poll", {"device_code": device_code})
    assert outcome(answer) == (429, {"error": "slow down"}, "5")


def test_an_account_with_all_its_keys_gets_no_more_by_any_way(caller: PortalClient) -> None:
    caller.sign_up()
    caller.log_in()
    wanted = {"name": "x", "scopes": ["servers:read"]}
    with ThreadPoolExecutor(20) as threads:
        statuses = list(threads.map(lambda _: caller.session("POST", "/keys", wanted).status_code, range(25)))
    assert (statuses.count(200), statuses.count(429)) == (24, 1)
    assert outcome(caller.public("login", caller.credentials())) == (429, {"error": LIMIT}, None)
    started = caller.public("device/start", {}).json()
    caller.session("POST", f"/device/{started['user_code']}:approve", {"scopes": ["servers:read"]})
    poll = {"device_code": started["device_code"]}
    assert outcome(caller.public("device/poll", poll)) == (429, {"error": LIMIT}, None)
    key_id = caller.session("GET", "/keys").json()[0]["id"]
    assert caller.session("POST", f"/keys/{key_id}:revoke").status_code == 204
    assert caller.public("device/poll", poll).json()["status"] == "approved"


def test_of_polls_that_come_together_one_gets_a_key_with_the_scopes_granted(caller: PortalClient) -> None:
    caller.sign_up()
    caller.log_in()
    started = caller.public("device/start", {}).json()
    caller.session("POST", f"/device/{started['user_code']}:approve", {"scopes": ["servers:read"]})
    poll = {"device_code": started["device_code"]}
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: caller.public("device/poll", poll).json(), range(40)))
    (api_key,) = [answer["api_key"] for answer in answers if "api_key" in answer]
    headers = {"x-api-key": api_key}
    assert caller.client.get("/v1/servers", headers=headers).status_code == 200
    refused = caller.client.post("/v1/servers/s1:start", headers=headers)
    assert (refused.status_code, refused.json()["message"]) == (403, "missing scope servers:write")


def test_a_device_of_a_suspended_account_is_refused_at_once_and_gets_nothing(
    portal_stack: Stack, caller: PortalClient
) -> None:
    account_id = caller.sign_up()["account_id"]
    caller.log_in()
    started, late = (caller.public("device/start", {}).json() for _ in range(2))
    scopes = {"scopes": ["servers:read"]}
    assert caller.session("POST", f"/device/{started['user_code']}:approve", scopes).status_code == 204
    suspended = AuditEvent.ACCOUNT_SUSPENDED
    portal_stack.administer(lambda admin: admin.change_account(account_id, suspended, Actor("operator")))
    refused = caller.session("POST", f"/device/{late['user_code']}:approve", scopes)
    assert outcome(refused) == (400, {"error": "this account is suspended"}, None)
    for _ in range(2):
        poll = caller.public("device/poll", {"device_code": started["device_code"]})
        assert outcome(poll) == (200, {"status": "expired"}, None)
    assert len(portal_stack.administer(lambda admin: admin.keys(account_id))) == 1


def test_a_revoked_key_is_refused_when_the_dashboard_says_so(caller: PortalClient) -> None:
    caller.sign_up()
    caller.log_in()
    made = caller.session("POST", "/keys", {"name": "x", "scopes": list(ALL_SCOPES)}).json()
    headers = {"x-api-key": made["api_key"]}
    assert caller.client.get("/v1/servers", headers=headers).status_code == 200
    assert caller.session("POST", f"/keys/{made['key']['id']}:revoke").status_code == 204
    refused = caller.client.get("/v1/servers", headers=headers)
    assert (refused.status_code, refused.json()["message"]) == (401, "invalid or missing api key")


def test_a_key_stops_and_works_again_when_the_dashboard_says_so(caller: PortalClient) -> None:
    caller.sign_up()
    caller.log_in()
    made = caller.session("POST", "/keys", {"name": "x", "scopes": list(ALL_SCOPES)}).json()
    headers = {"x-api-key": made["api_key"]}
    assert caller.client.get("/v1/servers", headers=headers).status_code == 200
    for verb, status in (("disable", 401), ("enable", 200)) * 5:
        assert caller.session("POST", f"/keys/{made['key']['id']}:{verb}").status_code == 204
        assert caller.client.get("/v1/servers", headers=headers).status_code == status


@pytest.mark.parametrize(("method", "path"), OWN_SURFACE)
def test_no_key_reaches_the_dashboards_own_surface(caller: PortalClient, method: str, path: str) -> None:
    key = {"x-api-key": caller.sign_up()["api_key"]} if (method, path) == OWN_SURFACE[0] else {"x-api-key": "ttk_x"}
    answer = caller.client.request(method, path, headers=key)
    assert (answer.status_code, answer.json()["message"]) == (403, "forbidden")


def test_an_identity_sent_straight_to_the_portal_is_not_believed(portal_stack: Stack, caller: PortalClient) -> None:
    account_id = caller.sign_up()["account_id"]
    forged = {"x-authz-account-id": account_id, "x-authz-client-address": "127.0.0.1"}
    for proof in ({}, {"x-authz-proxy": ""}, {"x-authz-proxy": "-"}, {"x-authz-proxy": "x" * 43}):
        for path in ("/v1/whoami", "/dashboard/login", "/v1/public/login"):
            answer = httpx.get(portal_stack.portal_url + path, headers=forged | proof, trust_env=False)
            assert outcome(answer) == (403, {"error": "forbidden"}, None)


def test_no_answer_believes_the_host_header(portal_stack: Stack) -> None:
    raw = send(portal_stack.url, "POST", "/v1/public/device/start", ("x-forwarded-host", "evil.example"))
    assert raw.document["verification_uri"] == f"{portal_stack.url}/device"
    answer = httpx.get(f"{portal_stack.url}/dashboard/keys", headers={"host": "evil.example"}, trust_env=False)
    assert (answer.status_code, "evil" in answer.text + str(answer.headers)) == (303, False)


def test_other_pages_may_sign_people_up_and_never_look_at_the_dashboard(caller: PortalClient) -> None:
    origin = {"origin": "https://shop.example"}
    assert caller.public("login", {}, **origin).headers["access-control-allow-origin"] == "https://shop.example"
    asks = origin | {"access-control-request-method": "GET"}
    for path in ("/dashboard/keys", "/device", "/v1/dashboard/session"):
        for answer in (caller.client.get(path, headers=origin), caller.client.options(path, headers=asks)):
            assert "access-control-allow-origin" not in answer.headers


def test_other_paths_belong_to_the_backend_or_do_not_exist(caller: PortalClient) -> None:
    key = {"x-api-key": caller.sign_up()["api_key"]}
    for path in ("/dashboards", "/devices", "/v1/dashboardx", "/v1/publicx", "/v1/whoami/x"):
        assert caller.client.get(path, headers=key).status_code == 404


def test_the_portal_reports_its_health_and_stops_on_sigterm(portal_stack: Stack) -> None:
    ready = httpx.get(f"{portal_stack.portal_url}/readyz", trust_env=False)
    assert ready.json() == {"redis": True, "postgres": True}
    log = portal_stack.portal.log.read_text() if portal_stack.portal else ""
    assert '"event":"listening"' in log


def test_envoy_is_the_one_to_close_quiet_connections(portal_stack: Stack, caller: PortalClient) -> None:
    """A request that meets the other side's closing ends in a 503."""
    assert caller.client.get("/dashboard/login").status_code == 200
    assert caller.client.get("/v1/servers", headers={"x-api-key": caller.sign_up()["api_key"]}).status_code == 200
    with ExitStack() as stack:
        quiet = []
        for url, path in ((portal_stack.portal_url, "/healthz"), (portal_stack.backend_url, "/")):
            connection = stack.enter_context(closing(HTTPConnection(url.removeprefix("http://"), timeout=5)))
            connection.request("GET", path)
            connection.getresponse().read()
            quiet.append(connection.sock)
        time.sleep(4 + 3)  # Envoy's idle_timeout, and more than anybody's timers are late
        for end in quiet:
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(1)
    for cluster in ("portal", "backend"):
        name = f"cluster.{cluster}.upstream_cx_idle_timeout"
        text = httpx.get(f"{portal_stack.envoy.admin_url}/stats?filter={name}", trust_env=False).text
        assert int(text.removeprefix(f"{name}: ")) > 0


def test_sessions_are_listed_and_ended_through_envoy(caller: PortalClient) -> None:
    caller.sign_up()
    here, elsewhere = PortalClient(caller.url), PortalClient(caller.url)
    here.email = elsewhere.email = caller.email
    with closing(here.client), closing(elsewhere.client):
        for browser in (here, elsewhere):
            browser.log_in()
        listed = here.session("GET", "/sessions").json()
        assert {one["source_address"]: one["is_current"] for one in listed} == {
            here.address: True,
            elsewhere.address: False,
        }
        other = next(one["id"] for one in listed if not one["is_current"])
        assert here.session("POST", f"/sessions/{other}:end").status_code == 204
        assert elsewhere.session("GET", "/keys").status_code == 401
        assert here.session("POST", "/sessions:end-others").json() == {"ended": 0}
        assert here.session("GET", "/keys").status_code == 200
