"""`authz policy import` and `authz policy coverage` on real APIs, as an operator and a pipeline use them."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.apis import METHODS, real_api
from support.import_checks import without_blocks
from typer.testing import CliRunner

from authz.adapters.policy_file.loader import load_policy
from authz.cli.app import app
from authz.core.check import Allow, Deny
from authz.core.policy.policy import Policy
from authz.core.policy.simulation import Caller, decide

RUNNER = CliRunner()
COUNTS = {
    # operations, rows, scopes, widened
    "github": (1223, 1222, 84, 1),
    "kubernetes": (1057, 1057, 111, 69),
    "petstore": (19, 19, 6, 0),
    "stripe": (594, 594, 135, 0),
}
REST = "0 routes are not in the description"


def policy(*arguments: object) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["policy", *map(str, arguments)])
    return result.exit_code, result.output


def written(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document))
    return path


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(method, path) for path, item in document["paths"].items() for method in METHODS if method in item]


def without(document: dict[str, Any], gone: list[tuple[str, str]]) -> dict[str, Any]:
    paths = {
        path: {name: it for name, it in item.items() if (name, path) not in gone}
        for path, item in document["paths"].items()
    }
    return {**document, "paths": {path: item for path, item in paths.items() if set(METHODS) & set(item)}}


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Policy]:
    folder = tmp_path_factory.mktemp("github")
    document = real_api("github")
    code, out = policy("import", "openapi", written(folder / "api.json", document), "-o", folder / "policy.yaml")
    assert code == 0, out
    return document, folder, load_policy(folder / "policy.yaml")


@pytest.mark.parametrize("name", COUNTS)
def test_a_real_api_becomes_a_policy_that_lints_clean_and_covers_it(name: str, tmp_path: Path) -> None:
    spec, made, expected = tmp_path / "api.json", tmp_path / "policy.yaml", tmp_path / "expectations.yaml"
    written(spec, real_api(name))
    code, out = policy("import", "openapi", spec, "-o", made, "--expectations", expected, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["operations"], found["rows"], found["scopes"], found["widened"]) == COUNTS[name]
    assert found["omitted"] == []
    assert found["undecided"] == []
    code, out = policy("lint", made, "--json")
    assert (code, json.loads(out)["warnings"], json.loads(out)["routes"]) == (0, [], COUNTS[name][1])
    code, out = policy("test", expected, "--policy", made, "--complete")
    assert (code, out) == (0, f"{COUNTS[name][0]} of {COUNTS[name][0]} expectations met\n")
    code, out = policy("coverage", spec, "--policy", made)
    assert (code, out.splitlines()[-1]) == (
        0,
        f"{COUNTS[name][1]} of {COUNTS[name][1]} rows covered, 0 of them by wider rows; {REST}",
    )


def test_200_random_operations_are_answered_as_the_description_says(
    github: tuple[dict[str, Any], Path, Policy],
) -> None:
    document, _, made = github
    for method, path in random.Random(1).sample(operations(document), 200):  # noqa: S311 -- for tests
        request = (method.upper(), path.replace("{", "a").replace("}", ""))
        tag = document["paths"][path][method]["tags"][0]
        scope = f"{tag}:{'read' if method == 'get' else 'write'}"
        assert isinstance(decide(made, *request, None), Deny)
        assert isinstance(decide(made, *request, Caller(frozenset({scope}))), Allow), request
        assert isinstance(decide(made, *request, Caller(frozenset(made.scopes) - {scope})), Deny)
        unknown = decide(made, request[0], f"/nowhere{path}".replace("{", "").replace("}", ""), Caller())
        assert isinstance(unknown, Deny)


def test_a_second_import_adds_what_is_new_and_reports_what_is_gone(
    github: tuple[dict[str, Any], Path, Policy], tmp_path: Path
) -> None:
    document, _, _ = github
    chance = random.Random(2)  # noqa: S311 -- for tests
    candidates = [it for it in operations(document) if "/compare/" not in it[1]]
    chosen = chance.sample(candidates, 70)
    new, gone = chosen[:50], chosen[50:]
    mine = tmp_path / "policy.yaml"
    code, _ = policy("import", "openapi", written(tmp_path / "old.json", without(document, new)), "-o", mine)
    assert code == 0
    text = mine.read_text()
    decisions = (
        ("  repos:read: {", "  # mine: everybody reads\n  code:read: {description: x}\n  repos:read: {"),
        ("  - scope: gists:write\n", "  - scope: gists:write\n    cost: 5   # by   hand\n"),
        ("  - scope: gists:read\n", "  - scope: code:read\n"),
        ("routes:\n", 'routes:\n\n  - access: barred\n    match: ["* /enterprises/**"]\n'),
    )
    for old, changed in decisions:
        assert old in text
        text = text.replace(old, changed, 1)
    # Rows that a bar hides are faults, so a person who adds a bar removes them.
    text = "".join(line for line in text.splitlines(keepends=True) if "- GET /enterprises/" not in line)
    text = "".join(line for line in text.splitlines(keepends=True) if " /enterprises/" not in line or "**" in line)
    text = with_groups_that_have_rows(text).replace("\n", "\r\n") + "# the end"
    mine.write_bytes(text.encode())
    code, out = policy("lint", mine)
    assert code == 0, out

    spec = written(tmp_path / "new.json", without(document, gone))
    code, out = policy("import", "openapi", spec, "--into", mine, "--json")
    assert code == 0, out
    found = json.loads(out)

    def rows(chosen: list[tuple[str, str]]) -> set[str]:
        names = {f"{method.upper()} {path}" for method, path in chosen if not path.startswith("/enterprises/")}
        return {name.replace("{enterprise-team}", "{enterprise_team}") for name in names}

    assert set(found["added"]) == rows(new)
    assert set(found["gone"]) == rows(gone)
    assert found["not_added"] == []
    assert {it["by"] for it in found["decided_by_others"]} == {"* /enterprises/**"}
    assert without_blocks(mine.read_bytes().decode()) == text
    assert policy("lint", mine)[0] == 0
    again = mine.read_bytes()
    code, out = policy("import", "openapi", spec, "--into", mine, "--json")
    assert (code, json.loads(out)["added"], mine.read_bytes() == again) == (0, [], True)


def with_groups_that_have_rows(text: str) -> str:
    """Remove the groups that have lost all their rows."""
    lines = text.splitlines(keepends=True)
    kept: list[str] = []
    for number, line in enumerate(lines):
        following = next((it for it in lines[number + 1 :] if not it.lstrip().startswith("#")), "")
        is_empty = line == "    match:\n" and not following.startswith("      - ")
        if is_empty:
            kept.pop()
        else:
            kept.append(line)
    return "".join(kept)
