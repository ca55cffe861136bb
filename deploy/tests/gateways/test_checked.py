"""What `authz envoy check` reports of the translated recipes: what each names as not guaranteed, and no false alarm."""

import hashlib
import json
import re

import pytest
from gateways.around import recipe, text
from gateways.translated import file_of
from typer.testing import CliRunner

from authz.cli.app import app
from authz.demo.servers import shipped

RULE = re.compile(r"EA[0-9]{3}")
# The sample policy has routes with bodies and with streams.
EXPECTED = {
    "envoy-gateway": {
        "EA301": "error",
        "EA401": "error",
        "EA406": "error",
        "EA407": "warning",
        "EA621": "warning",
        "EA215": "note",
        "EA601": "note",
    },
    "istio": {
        "EA301": "error",
        "EA401": "error",
        "EA407": "warning",
        "EA215": "note",
        "EA224": "note",
        "EA225": "note",
        "EA226": "note",
        "EA601": "note",
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_translation_is_of_the_present_recipe(name: str) -> None:
    digest = hashlib.sha256(text(name).encode()).hexdigest()
    assert f"# Input: {digest}\n" in file_of(name).read_text(), "run make gateways"


@pytest.mark.parametrize("name", EXPECTED)
def test_the_checker_reports_exactly_what_the_recipe_does_not_guarantee(name: str) -> None:
    policy = str(shipped("policies/truetick.yaml"))
    command = ["envoy", "check", str(file_of(name)), "--policy", policy, "--format", "json"]
    findings = json.loads(CliRunner().invoke(app, command).stdout)["findings"]
    assert {finding["rule"]: finding["severity"] for finding in findings} == EXPECTED[name]
    comment = "".join(line for line in recipe(name).read_text().splitlines() if line.startswith("#"))
    assert set(RULE.findall(comment)) == set(EXPECTED[name])


@pytest.mark.parametrize("name", EXPECTED)
def test_without_routes_for_bodies_and_streams_nothing_is_an_error(name: str) -> None:
    done = CliRunner().invoke(app, ["envoy", "check", str(file_of(name))], env={"AUTHZ_POLICY_FILE": None})
    assert done.exit_code == 0, done.output
