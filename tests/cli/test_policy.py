"""`authz policy` as an operator and a pipeline use it: what it prints, and what it exits with."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from authz.cli.app import app
from authz.demo.servers import shipped

POLICY = shipped("policies/truetick.yaml")
EXPECTATIONS = shipped("policies/truetick.expectations.yaml")
RUNNER = CliRunner()


def policy(*arguments: object) -> tuple[int, str]:
    result = RUNNER.invoke(
        app, ["policy", *(str(argument) for argument in arguments)], env={"AUTHZ_POLICY_FILE": str(POLICY)}
    )
    return result.exit_code, result.output


def explained(method: str, target: str, *arguments: str) -> str:
    code, out = policy("explain", method, target, *arguments)
    assert code == 0
    return out


@pytest.fixture
def changed(folder: Path) -> Path:
    """The policy with a row opened, one closed, a bar taken away, and room for twice as many requests."""
    text = POLICY.read_text()
    for old, new in (
        ("scope: console", "scope: servers:read"),
        ('      - "* /v1/admin/**"\n', ""),
        ("      - GET /v1/regions\n", "      - GET /v1/regions\n      - GET /v1/admin/{id}\n"),
        ("account: path:account_id\n\n", "\n"),
        ("capacity: 120", "capacity: 240"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "changed.yaml"
    path.write_text(text)
    return path


def test_explain_shows_the_row_its_needs_and_who_passes() -> None:
    assert explained("POST", "/v1/servers/s1:start") == (
        "POST /v1/servers/s1:start\n"
        f"  row      POST /v1/servers/{{id}}:start  ({POLICY}:51)\n"
        "  needs    servers:write, which writes: Create, change and delete servers and what belongs to them.\n"
        "  allow  keys for servers:write\n"
        "  401 key_missing: invalid or missing api key  callers without a key\n"
        "  403 scope_missing: missing scope servers:write  every other key\n"
    )


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/v1/whoami", "  needs    any valid key\n  allow  every key\n"),
        ("POST", "/v1/public/login", "  needs    no key\n  allow  anybody\n"),
        ("GET", "/dashboard", "  allow  callers without a key\n  403 key_on_session_route: forbidden  every key\n"),
        ("GET", "/v1/admin/x", "  needs    barred: no key is admitted\n"),
        ("GET", "/v1/accounts/a/wallet", "  account  path:account_id must be the key's own\n"),
        ("GET", "/v1/servers/s/logs/stream", "  stream   logs\n  errors   one line of text\n"),
        ("POST", "/v1/servers/s:enable-sftp", "  yields   a credential\n"),
        ("GET", "/v1/nowhere", "  row      none: no route matches this path\n"),
        ("PUT", "/v1/servers", "  row      none: the path allows GET, HEAD, POST only\n"),
        ("GET", "/v1/servers/s%3Astart", "  row      none: the path is ambiguous or never accepted"),
        ("TRACE", "/v1/servers", "  row      none: the method is never allowed\n"),
    ],
)
def test_explain_says_what_each_kind_of_row_asks_for(method: str, target: str, expected: str) -> None:
    assert expected in explained(method, target)


def test_explain_answers_for_one_key_and_in_fields() -> None:
    out = explained("GET", "/v1/servers/s1", "--scope", "servers:read", "--scope", "console")
    assert "  allow  keys for servers:read, this key: servers:read console\n" in out
    fields = json.loads(explained("GET", "/v1/servers/s1", "--json"))
    assert fields["row"] == {
        "method": "GET",
        "template": "/v1/servers/{id}",
        "needs": "servers:read",
        "at": f"{POLICY}:31",
    }
    assert fields["callers"]["servers:read"] == "allow"
    assert policy("explain", "GET", "/v1/servers", "--scope", "servers:raed")[0] == 2


def test_explain_tells_a_shadow_from_a_row_that_is_enforced(folder: Path) -> None:
    path = folder / "shadow.yaml"
    path.write_text(POLICY.read_text().replace("scope: console", "scope: console\n    shadow: true\n    cost: 3"))
    out = explained("POST", "/v1/servers/s1:command", "--policy", str(path))
    assert "  cost     3 tokens\n  shadow   decided and counted, but every request is allowed\n" in out
    assert "  allow (shadow; would be scope_missing)  every other key\n" in out


def test_expectations_that_are_met_exit_with_nothing() -> None:
    assert policy("test", EXPECTATIONS, "--complete") == (0, "107 of 107 expectations met\n")
    code, out = policy("test", EXPECTATIONS, "--json")
    assert (code, json.loads(out)) == (0, {"expectations": 107, "failures": [], "rows_without": []})


def test_unmet_expectations_are_reported_with_their_line(changed: Path, folder: Path) -> None:
    code, out = policy("test", EXPECTATIONS, "--policy", changed)
    assert code == 1
    assert f"{EXPECTATIONS}:69: POST /v1/servers/s1:command: expected needs console, found needs servers:read\n" in out
    assert ": GET /v1/accounts/a2/wallet with a key of a1 for billing:read servers:read servers:write: " in out
    assert out.endswith("104 of 107 expectations met\n")
    failures = json.loads(policy("test", EXPECTATIONS, "--policy", changed, "--json")[1])["failures"]
    assert failures[0] == {
        "line": 69,
        "request": "POST /v1/servers/s1:command",
        "expected": "needs console",
        "found": "needs servers:read",
    }
    one = folder / "one.yaml"
    one.write_text(
        "version: 1\nexpectations:\n"
        "  - {request: GET /v1/whoami, expect: allow}\n"
        "  - {request: GET /v1/servers, expect: allow, key: []}\n"
    )
    code, out = policy("test", one)
    assert code == 1
    assert f"{one}:3: GET /v1/whoami without a key: expected allow, found 401 key_missing\n" in out
    assert f"{one}:4: GET /v1/servers with a key for nothing: expected allow, found 403 scope_missing\n" in out


def test_rows_without_an_expectation_fail_where_all_are_wanted(folder: Path) -> None:
    one = folder / "one.yaml"
    one.write_text("version: 1\nexpectations:\n  - {request: GET /v1/whoami, needs: any}\n")
    assert policy("test", one) == (0, "1 of 1 expectations met; rows without any: 83\n")
    code, out = policy("test", one, "--complete")
    assert code == 1
    assert f"{POLICY}:27: no expectation\n" in out
    assert json.loads(policy("test", one, "--json")[1])["rows_without"][0] == {
        "method": "GET",
        "template": "/v1/servers",
        "needs": "servers:read",
    }


def test_diff_marks_what_becomes_reachable(changed: Path) -> None:
    code, out = policy("diff", POLICY, changed)
    assert code == 0
    assert out.startswith(
        "! opens to keys for servers:read\n"
        "~ no longer barred\n"
        "    GET /v1/admin/*\n"
        f"    was * /v1/admin/**: barred  ({POLICY}:154)\n"
        f"    now GET /v1/admin/{{id}}: servers:read  ({changed}:39)\n"
    )
    assert "+ opens to keys for servers:read\n- closes to keys for console\n    POST /v1/servers/*:command\n" in out
    assert "! no longer checks: path:account_id\n    GET /v1/accounts/*/wallet\n" in out
    assert "    now no route decides\n" in out
    assert "~ limit: capacity 120, refill_per_s 2.0 → capacity 240, refill_per_s 2.0\n" in out
    assert out.endswith("changes that open: 4, that close: 1\n")


def test_diff_says_what_closes_the_other_way_round(changed: Path) -> None:
    out = policy("diff", changed, POLICY)[1]
    assert "- now checks: path:account_id\n" in out
    assert "- closes to keys for servers:read\n~ barred\n" in out


def test_diff_refuses_an_opening_when_configured_to(changed: Path) -> None:
    assert policy("diff", POLICY, changed, "--no-opening")[0] == 3
    assert policy("diff", POLICY, POLICY, "--no-opening") == (0, "no request is decided differently\n")
    fields = json.loads(policy("diff", POLICY, changed, "--json")[1])
    assert fields["changes"][0]["is_grave"]
    assert fields["changes"][0]["new"]["template"] == "/v1/admin/{id}"


def test_diff_names_callers_as_people_would(folder: Path) -> None:
    path = folder / "other.yaml"
    for access, words in (
        ("any", "! opens"),
        ("any", "every other key"),
        ("public", "every other key and callers without a key"),
    ):
        path.write_text(POLICY.read_text().replace("- scope: console", f"- access: {access}"))
        if words != "! opens":
            assert f"opens to {words}\n" in policy("diff", POLICY, path)[1]
    path.write_text(
        POLICY.read_text().replace(
            "account: [query:account_id, query:accountId]", "account: query:account_id\n    account_required: true"
        )
    )
    out = policy("diff", path, POLICY)[1]
    assert "+ no longer checks: that an account is named\n- now checks: query:accountId\n" in out


def test_many_requests_of_one_change_are_summed_up(folder: Path) -> None:
    path = folder / "wide.yaml"
    path.write_text(POLICY.read_text().replace("* /v1/admin/**", "* /v2/**"))
    assert " more kinds of path\n" in policy("diff", POLICY, path)[1]
    assert "    * /v1/admin  * /v1/admin/  * /v1/admin/:*  and " in policy("diff", POLICY, path)[1]


def test_lint_warns_of_a_row_that_binds_one_of_query_and_body(tmp_path: Path) -> None:
    text = POLICY.read_text().replace(", query:accountId, query:account_id]", "]")
    (tmp_path / "policy.yaml").write_text(text)
    code, out = policy("lint", tmp_path / "policy.yaml")
    assert code == 0
    assert "POST /v1/servers binds the account in the body only" in out
    assert "warning" not in policy("lint", POLICY)[1]
