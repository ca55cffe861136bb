"""`authz policy` on policies of several files and hosts: commands show where rows are, and add where they belong."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from authz.adapters.policy_file.loader import load_policy
from authz.adapters.policy_file.yaml import rendered
from authz.cli.app import app
from authz.core.check import Allow
from authz.core.errors import PolicyError
from authz.core.policy.simulation import Caller, decide

RUNNER = CliRunner()
TOP = """\
version: 2
api: {name: shop, domain: shop.example}
keys: {header: x-api-key, prefix: shop_, active_max: 5}
limit: {capacity: 100, refill_per_s: 1}
include: [orders.yaml]
scopes:
  orders: {description: See orders.}
"""
ORDERS = "routes:\n  - scope: orders\n    match: [GET /orders, POST /orders]\n    account: body:account_id\n"
HOSTS = "hosts: [a.example, b.example]\n"
SPEC = {
    "openapi": "3.0.0",
    "info": {"title": "shop", "version": "1"},
    "security": [{"k": []}],
    "components": {"securitySchemes": {"k": {"type": "apiKey", "in": "header", "name": "x-api-key"}}},
    "paths": {path: {"get": {"responses": {"200": {"description": "x"}}}} for path in ("/orders", "/teams")},
}


def policy(*arguments: object) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["policy", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
def file(folder: Path) -> Path:
    (folder / "orders.yaml").write_text(
        ORDERS.replace("GET /orders, POST /orders", "GET /orders").replace("body", "query")
    )
    (folder / "policy.yaml").write_text(TOP)
    (folder / "spec.json").write_text(json.dumps(SPEC))
    return folder / "policy.yaml"


def test_lint_and_explain_name_the_included_file(file: Path) -> None:
    orders = file.with_name("orders.yaml")
    orders.write_text(ORDERS.replace("GET /orders, POST", "POST"))
    code, out = policy("lint", file)
    assert code == 0
    assert f"{orders}:3: warning: POST /orders binds" in out
    code, out = policy("explain", "POST", "/orders", "--policy", file)
    assert f"({orders}:3)" in out
    orders.write_text("routes:\n  - scope: other\n    match: GET /orders\n")
    error = RUNNER.invoke(app, ["policy", "lint", str(file)]).exception
    assert isinstance(error, PolicyError)
    assert rendered(error) == f"{orders}:3:12: the scope other is not declared"


def test_a_diff_compares_all_files(file: Path, folder: Path) -> None:
    one = folder / "one.yaml"
    one.write_text(TOP.replace("include: [orders.yaml]\n", "") + "routes:\n  - scope: orders\n    match: GET /orders\n")
    code, out = policy("diff", one, file)
    assert (code, "now checks: query:account_id" in out) == (0, True)
    assert f"({folder / 'orders.yaml'}:3)" in out


def test_an_import_adds_to_the_file_that_it_is_given(file: Path, folder: Path) -> None:
    before = file.read_text()
    assert policy("coverage", folder / "spec.json", "--policy", file)[0] == 1
    code, out = policy("import", "openapi", folder / "spec.json", "--into", file)
    assert code == 0, out
    assert file.read_text().startswith(before.partition("scopes:")[0])
    assert "GET /teams" in file.read_text()
    assert "GET /orders" not in file.read_text()
    assert policy("coverage", folder / "spec.json", "--policy", file)[0] == 0


def test_an_import_into_a_policy_with_hosts_needs_one_and_opens_it_at_no_other(file: Path, folder: Path) -> None:
    file.write_text(TOP.replace("scopes:", f"{HOSTS}scopes:"))
    assert policy("import", "openapi", folder / "spec.json", "--into", file)[0] == 2
    assert policy("import", "openapi", folder / "spec.json", "--into", file, "--host", "c.example")[0] == 2
    code, out = policy("import", "openapi", folder / "spec.json", "--into", file, "--host", "b.example")
    assert code == 0, out
    loaded = load_policy(file)
    caller = Caller(frozenset(loaded.scopes))
    allowed = {
        host: isinstance(decide(loaded, "GET", "/teams", caller, host=host), Allow)
        for host in ("a.example", "b.example", "")
    }
    assert allowed == {"a.example": False, "b.example": True, "": False}
    assert policy("coverage", folder / "spec.json", "--policy", file, "--host", "b.example")[0] == 0
    assert policy("coverage", folder / "spec.json", "--policy", file, "--host", "a.example")[0] == 1
    code, out = policy("explain", "GET", "/teams", "--policy", file, "--host", "B.example:443")
    assert "hosts    b.example" in out


def test_expectations_have_hosts(file: Path, folder: Path) -> None:
    file.write_text(TOP.replace("scopes:", f"{HOSTS}scopes:"))
    expected = folder / "expected.yaml"
    expected.write_text(
        "version: 1\nexpectations:\n"
        "  - {needs: orders, request: GET /orders, host: a.example}\n"
        "  - {needs: route_unknown, request: GET /orders, host: c.example}\n"
        "  - {expect: 404, key: [orders], request: GET /orders}\n"
    )
    assert policy("test", expected, "--policy", file, "--complete")[0] == 0
    expected.write_text("version: 1\nexpectations:\n  - {needs: orders, request: GET /orders, host: c.example}\n")
    code, out = policy("test", expected, "--policy", file)
    assert (code, "GET c.example/orders: expected needs orders, found needs route_unknown" in out) == (1, True)
