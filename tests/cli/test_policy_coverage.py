"""`authz policy coverage`, and what `authz policy import` refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from authz.cli.app import app
from authz.cli.failures import reporting

RUNNER = CliRunner()
SPEC: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Acme"},
    "security": [{"key": []}],
    "paths": {
        "/a": {"get": {}, "post": {}},
        "/b/{id}": {"get": {"deprecated": True}},
        "/open": {"get": {"security": []}},
    },
}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "api.json"
    path.write_text(json.dumps(SPEC))
    return path


@pytest.fixture
def policy(spec: Path, tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    assert run("policy", "import", "openapi", spec, "-o", path)[0] == 0
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = RUNNER.invoke(app, list(map(str, arguments)))
    return result.exit_code, result.output


def failed(*arguments: object) -> int:
    words = [str(argument) for argument in arguments]
    return reporting(lambda: app(words, standalone_mode=False, prog_name="authz"))


def test_an_imported_policy_covers_its_description(spec: Path, policy: Path) -> None:
    assert run("policy", "coverage", spec, "--policy", policy) == (
        0,
        "4 of 4 rows covered, 0 of them by wider rows; 0 routes are not in the description\n",
    )


def test_coverage_shows_both_directions_and_fails(spec: Path, policy: Path) -> None:
    text = policy.read_text().replace("- POST /a\n", "- POST /c\n").replace("- GET /open", "- GET /a:open")
    policy.write_text(text)
    code, out = run("policy", "coverage", spec, "--policy", policy)
    assert code == 1
    lines = [line.split("  (")[0] for line in out.splitlines()]
    assert lines[:4] == ["missing  POST /a", "missing  GET /open", "extra  POST /c", "extra  GET /a:open"]


def test_extra_routes_may_be_accepted(spec: Path, policy: Path) -> None:
    policy.write_text(policy.read_text() + "  - {access: any, match: GET /whoami}\n")
    assert run("policy", "coverage", spec, "--policy", policy)[0] == 1
    assert run("policy", "coverage", spec, "--policy", policy, "--allow-extra")[0] == 0


def test_a_row_that_is_open_against_the_description_fails(spec: Path, policy: Path) -> None:
    for access in ("access: public", "access: session", "scope: a:read\n    shadow: true"):
        text = policy.read_text().replace("  - scope: a:read\n", f"  - {access}\n")
        opened = policy.with_name("open.yaml")
        opened.write_text(text)
        code, out = run("policy", "coverage", spec, "--policy", opened, "--allow-extra")
        assert (code, "open without a key  GET /a" in out) == (1, True)


def test_barred_rows_are_decisions_and_not_gaps(spec: Path, policy: Path) -> None:
    text = (
        policy.read_text()
        .replace("      - GET /a\n", "      - GET /aa\n")
        .replace("      - POST /a\n", "      - POST /aa\n")
    )
    policy.write_text(text + '  - {access: barred, match: "* /a"}\n')
    code, out = run("policy", "coverage", spec, "--policy", policy, "--json")
    found = json.loads(out)
    assert (code, found["missing"]) == (1, [])
    assert {it["row"] for it in found["decided_by_wider"]} == {"GET /a", "POST /a"}


def test_nothing_is_overwritten(spec: Path, policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy.write_text("mine")
    assert failed("policy", "import", "openapi", spec, "-o", policy) == 3
    assert failed("policy", "import", "openapi", spec, "--expectations", policy) == 3
    assert policy.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert failed("policy", "import", "openapi", spec, "-o", policy, "--force") == 0


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "openapi: 3.0.0", '{"openapi": "3.0.0", "paths": {"/a": {"trace": {}}}}']
)
def test_a_file_without_operations_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "api.yaml"
    path.write_text(text)
    assert failed("policy", "import", "openapi", path) == 1
    assert capsys.readouterr().err.startswith(f"{path}:1:")


def test_a_policy_in_one_line_cannot_be_added_to(spec: Path, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\napi: {name: a, domain: a.b}\nkeys: {header: x-api-key, prefix: a_, active_max: 5}\n"
        "limit: {capacity: 1, refill_per_s: 1}\nscopes: {}\nroutes: [{access: any, match: GET /z}]\n"
    )
    before = path.read_bytes()
    assert failed("policy", "import", "openapi", spec, "--into", path) == 1
    assert path.read_bytes() == before


def test_what_a_hand_made_wide_row_decides_is_not_added(spec: Path, policy: Path) -> None:
    policy.write_text(policy.read_text().replace("      - GET /b/{id}\n", "      - POST /b/**\n"))
    code, out = run("policy", "import", "openapi", spec, "--into", policy, "--json")
    found = json.loads(out)
    assert (code, found["added"]) == (0, [])
    assert found["not_added"] == [{"row": "GET /b/{id}", "reason": "the row /b/** of the policy decides on its path"}]
    assert "# not added: GET /b/{id}" in policy.read_text()


def test_a_description_cannot_write_rows(tmp_path: Path) -> None:
    nasty = "x\n  - {access: public, match: GET /secret}\n"
    document = {
        **SPEC,
        "info": {"title": nasty},
        "tags": [{"name": nasty, "description": nasty}],
        "servers": [{"url": f"/v1/{nasty}"}],
        "paths": {f"/{nasty}": {"get": {"tags": [nasty], "x-authz": nasty}}, f"/a?{nasty}": {"trace": {}, "post": {}}},
    }
    spec = tmp_path / "api.json"
    spec.write_text(json.dumps(document))
    code, out = run("policy", "import", "openapi", spec, "--json")
    assert code == 0
    made = json.loads(out)
    assert made["public"] == 0
    assert not [line for line in made["policy"].splitlines() if line.lstrip().startswith("- {access")]
