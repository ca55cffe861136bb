"""`authz init`: what it writes, asks for and refuses."""

import json
from pathlib import Path

import pytest
import yaml

from authz.cli.app import app
from authz.cli.failures import reporting

SPEC = {
    "openapi": "3.0.0",
    "info": {"title": "Acme's pets: the API"},
    "paths": {"/pets": {"get": {"tags": ["pets"]}}},
}
FILES = {"policy.yaml", "expectations.yaml", "envoy.yaml", "compose.yaml", "README.md"}


def init(*arguments: str) -> int:
    return reporting(lambda: app(["init", *arguments], standalone_mode=False, prog_name="authz"))


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    spec = tmp_path / "api.json"
    spec.write_text(json.dumps(SPEC))
    return ["--openapi", str(spec), "--folder", str(tmp_path / "made")]


def test_five_files_are_written_and_never_over_others(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    arguments = [*given, "--prefix", "acme_", "--backend", "http://127.0.0.1:3000"]
    assert init(*arguments) == 0
    assert {path.name for path in made.iterdir()} == FILES
    compose = yaml.safe_load((made / "compose.yaml").read_text())
    assert set(compose["services"]) == {"valkey", "postgres", "migrate", "authz", "envoy"}
    assert compose["services"]["authz"]["environment"]["AUTHZ_POLICY_FILE"] == "/etc/authz/policy.yaml"
    readme = (made / "README.md").read_text()
    assert "--scope pets:read" in readme
    assert "http://127.0.0.1:8000/pets" in readme
    (made / "compose.yaml").write_text("mine")
    for file in FILES - {"compose.yaml"}:
        (made / file).unlink()
    capsys.readouterr()
    assert init(*arguments) == 3
    assert {path.name for path in made.iterdir()} == {"compose.yaml"}
    assert (made / "compose.yaml").read_text() == "mine"
    assert init(*arguments, "--force") == 0


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--backend", "http://a:1"], "--prefix"),
        (["--prefix", "a_"], "--backend"),
        (["--prefix", "a_", "--backend", "http://a/b"], "--backend"),
        (["--prefix", "A", "--backend", "http://a"], "prefix"),
        (["--prefix", "a_", "--backend", "http://a", "--name", "A b"], "name"),
    ],
)
def test_what_is_missing_or_wrong_is_named_and_nothing_is_written(
    arguments: list[str],
    option: str,
    given: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert init(*given, *arguments) == 2
    assert option in capsys.readouterr().err
    assert not list((tmp_path / "made").glob("*"))
