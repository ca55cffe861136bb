"""Policy files: the shipped one opens exactly what is documented, and a faulty one says where its fault is."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from authz.adapters.policy_file.document import schema_text
from authz.adapters.policy_file.loader import load_policy
from authz.adapters.policy_file.yaml import rendered
from authz.core.errors import PolicyError
from authz.core.policy.path import parse
from authz.core.policy.route import Access, ErrorFormat, Route
from authz.core.throttles import Attempt, Throttle
from authz.demo.servers import shipped

ROOT = Path(__file__).parents[3]
SHIPPED = shipped("policies/truetick.yaml")
FAULTY = sorted((ROOT / "tests" / "data" / "policies").glob("*.yaml"))
POLICY = load_policy(SHIPPED)

# Every documented route by what it needs, with ids filled in.
DOCUMENTED = {
    "any": "GET /v1/whoami",
    "servers:read": """
        GET /v1/servers, GET /v1/servers/s1, GET /v1/servers/s1/metrics, GET /v1/servers/s1/tick-history,
        GET /v1/servers/s1/logs, GET /v1/servers/s1/logs/stream,
        GET /v1/servers/s1/mods,
        GET /v1/servers/s1/mods/versions, GET /v1/templates, GET /v1/regions, GET /v1/capacity, GET /v1/versions,
        GET /v1/servers/s1/players,
        GET /v1/servers/s1/schedules, GET /v1/servers/s1/worlds, GET /v1/servers/s1/audit, GET /v1/servers/s1/ports,
        GET /v1/servers/s1/databases, GET /v1/accounts/a1/limits""",
    "servers:write": """
        POST /v1/servers, DELETE /v1/servers/s1, POST /v1/servers/s1:start, POST /v1/servers/s1:stop,
        POST /v1/servers/s1:restart, POST /v1/servers/s1:set-version, POST /v1/servers/s1:set-properties,
        POST /v1/servers/s1:set-motd, POST /v1/servers/s1/mods, POST /v1/servers/s1/mods:remove,
        POST /v1/templates/t1:create, POST /v1/servers/s1/players:whitelist, POST /v1/servers/s1/players:op,
        POST /v1/servers/s1/players:deop, POST /v1/servers/s1/players:ban, POST /v1/servers/s1/players:unban,
        POST /v1/servers/s1/players:kick, POST /v1/servers/s1/schedules, DELETE /v1/servers/s1/schedules/x,
        POST /v1/servers/s1/worlds, DELETE /v1/servers/s1/worlds/x, POST /v1/servers/s1/ports,
        DELETE /v1/servers/s1/ports/x, POST /v1/servers/s1/databases, DELETE /v1/servers/s1/databases/x,
        POST /v1/servers/s1:set-plan, POST /v1/servers/s1:set-alert-webhook, POST /v1/servers/s1:set-public-status,
        GET /v1/servers/s1/databases/d1:password""",
    "console": "POST /v1/servers/s1:command",
    "files:read": "GET /v1/servers/s1/files, GET /v1/servers/s1/file",
    "files:write": """
        POST /v1/servers/s1:enable-sftp, POST /v1/servers/s1/file, POST /v1/servers/s1/file:delete,
        POST /v1/servers/s1:rotate-sftp, POST /v1/servers/s1:disable-sftp, POST /v1/servers/s1/file:rename,
        POST /v1/servers/s1/file:copy, POST /v1/servers/s1/file:mkdir""",
    "backups": """
        GET /v1/servers/s1/backups, POST /v1/servers/s1/backups, POST /v1/servers/s1/backups/b1:restore,
        POST /v1/servers/s1/backups/b1:set-kept, DELETE /v1/servers/s1/backups/b1""",
    "billing:read": """
        GET /v1/accounts/a1/wallet, POST /v1/accounts/a1/checkout-link, GET /v1/accounts/a1/ledger""",
    "session": """
        GET /dashboard/keys, POST /dashboard/a/b/c, GET /device/approve, POST /device/x,
        DELETE /v1/dashboard/keys/k1""",
    "barred": """
        GET /v1/accounts/a1/keys, POST /v1/accounts/a1/keys/k1/rotate, POST /v1/accounts/a1:top-up,
        POST /v1/accounts/a1:redeem-promo, GET /v1/accounts/a1/members/m1, POST /v1/accounts/a1/invites,
        POST /v1/accounts/a1/discord/link, PUT /v1/accounts/a1/password,
        GET /v1/admin,
        DELETE /v1/admin/users/u1:purge, POST /truetick.admin.v1.Accounts/Delete""",
    "public": """
        POST /v1/public/signup, POST /v1/public/login, POST /v1/public/device/start, POST /v1/public/device/poll""",
}
ROWS = [(need, *row.split()) for need, rows in DOCUMENTED.items() for row in rows.split(",")]


def matched(method: str, path: str) -> Route:
    target = parse(path)
    assert target is not None
    match = POLICY.router.match(method, target)
    assert match is not None
    assert match.route is not None
    return match.route


@pytest.mark.parametrize(("need", "method", "path"), ROWS)
def test_each_documented_route_needs_what_is_documented(need: str, method: str, path: str) -> None:
    route = matched(method, path)
    assert (route.scope or route.access.value) == need


def test_the_shipped_policy_opens_nothing_else() -> None:
    opened = {route for route in POLICY.routes if route.access not in {Access.BARRED, Access.SESSION}}
    assert opened == {matched(method, path) for need, method, path in ROWS if need not in {"barred", "session"}}
    assert len(POLICY.scopes) == 7


def test_routes_that_yield_credentials_need_a_write_scope() -> None:
    yielding = {route.template: route.scope for route in POLICY.routes if route.yields_credential}
    assert yielding == {
        "/v1/servers/{id}:enable-sftp": "files:write",
        "/v1/servers/{id}:rotate-sftp": "files:write",
        "/v1/servers/{id}/databases/{database_id}:password": "servers:write",
    }
    assert all(POLICY.scopes[scope].write for scope in yielding.values())


def test_the_portals_throttles_have_the_words_and_waits_that_clients_know() -> None:
    said = {attempt.value: (throttle.message, throttle.wait_s) for attempt, throttle in POLICY.throttles.items()}
    assert said == {
        "signup": ("too many signups, try again later", 3600),
        "login": ("too many attempts, try again later", 600),
        "device_start": ("too many requests", 60),
        "device_poll": ("slow down", 5),
        "code_entry": ("too many attempts, try again later", 600),
        "verification_mail": ("too many mails, try again later", 3600),
        "password_reset": ("too many mails, try again later", 3600),
        "key_creation": ("too many new keys, try again later", 600),
        "key_change": ("too many key changes, try again later", 600),
    }


def test_a_throttle_without_words_keeps_those_that_are_built_in(tmp_path: Path) -> None:
    before, _ = SHIPPED.read_text().split("throttles:")
    said = [
        "throttles:",
        "  signup: {per_address: 3, wait_s: 60}",
        "  login: {per_address: 3, wait_s: 60, message: wait}",
    ]
    (tmp_path / "policy.yaml").write_text(before + "\n".join(said))
    throttles = load_policy(tmp_path / "policy.yaml").throttles
    assert throttles[Attempt.SIGNUP] == Throttle(3, 0, 60, "too many signups, try again later")
    assert throttles[Attempt.LOGIN] == Throttle(3, 0, 60, "wait")
    assert throttles[Attempt.DEVICE_POLL].message == "slow down"


def test_the_log_stream_speaks_plain_text() -> None:
    stream = matched("GET", "/v1/servers/s1/logs/stream")
    assert stream.errors is ErrorFormat.TEXT
    assert POLICY.streams[stream.stream].per_key == 3


@pytest.mark.parametrize("path", FAULTY, ids=lambda path: path.stem)
def test_a_fault_is_named_with_its_line_and_column(path: Path) -> None:
    expected = path.read_text().splitlines()[0].removeprefix("# ")
    with pytest.raises(PolicyError) as raised:
        load_policy(path)
    assert rendered(raised.value) == f"{path}:{expected}"


def test_there_are_at_least_twenty_five_faults() -> None:
    assert len(FAULTY) >= 25


def test_every_fault_of_a_file_is_found_at_once(tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    (tmp_path / "two.yaml").write_text(
        text.replace("scope: console", "scope: consle").replace("scope: files:read", "scope: files:raed")
    )
    with pytest.raises(PolicyError) as raised:
        load_policy(tmp_path / "two.yaml")
    messages = [problem.message for problem in raised.value.problems]
    assert sorted(set(messages)) == ["the scope consle is not declared", "the scope files:raed is not declared"]
    assert raised.value.problems == sorted(raised.value.problems, key=lambda problem: problem.line)


def test_a_file_that_cannot_be_read_is_a_fault_too(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"version: \xe9")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "latin.yaml")


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, "{a: " * 5000 + "1" + "}" * 5000])
def test_a_file_that_is_nested_too_deeply_is_a_fault_too(tmp_path: Path, text: str) -> None:
    (tmp_path / "deep.yaml").write_text(text)
    with pytest.raises(PolicyError, match="nested too deeply"):
        load_policy(tmp_path / "deep.yaml")


@pytest.mark.parametrize(
    ("row", "barred", "hidden"),
    [
        ("GET /v1/**", ["/v1/{x}"], False),
        ("GET /v1/**", ["/v1/{x}/**"], False),
        ("GET /v1/**", ["/v1", "/v1/{x}/{y}/**"], False),
        ("GET /v1/**", ["/v1", "/v1/{x}/**"], True),
        ("GET /v1/{x}:go", ["/v1/{x}"], True),
        ("GET /v1/{x}", ["/v1/{x}:go"], False),
        ("GET /**:go", ["/**:go"], True),
        ("/shop.v1.Orders/Ship", ["/shop.**"], True),
        ("/shop.**", ["/shop.v1.**"], False),
    ],
)
def test_only_a_row_that_is_barred_altogether_is_a_fault(
    tmp_path: Path, row: str, barred: list[str], *, hidden: bool
) -> None:
    document = yaml.safe_load(SHIPPED.read_text())
    bars = [bar if bar.startswith("/shop") else f"* {bar}" for bar in barred]
    document["routes"] = [{"access": "any", "match": row}, {"access": "barred", "match": bars}]
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(document))
    if hidden:
        with pytest.raises(PolicyError, match="never reached"):
            load_policy(tmp_path / "policy.yaml")
    else:
        assert len(load_policy(tmp_path / "policy.yaml").routes) == len(barred) + 1


@given(st.text(max_size=200))
def test_no_text_makes_the_loader_stumble(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(PolicyError):
        load_policy(path)


def test_the_shipped_schema_is_the_models_own() -> None:
    assert (ROOT / "authz" / "adapters" / "policy_file" / "schema.json").read_text() == schema_text()


def test_the_schema_accepts_the_shipped_policy_and_refuses_unknown_fields() -> None:
    document = yaml.safe_load(SHIPPED.read_text())
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    validator.validate(document)
    document["routes"][0]["scpoe"] = "x"
    assert not validator.is_valid(document)
