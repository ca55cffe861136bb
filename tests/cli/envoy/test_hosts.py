"""Policies with hosts need an Envoy that passes on no header that names another host."""

from pathlib import Path

from typer.testing import CliRunner

from authz.adapters.policy_file.loader import load_policy
from authz.cli.app import app
from authz.cli.envoy.commands import findings_of
from authz.core.envoy_rules.needs import Deadlines, needs_of
from authz.core.policy.overrides import HOST_HEADERS

POLICY = Path(__file__).parents[2] / "data" / "hosts.yaml"


def test_a_rendered_envoy_removes_them_and_a_check_finds_one_that_does_not() -> None:
    result = CliRunner().invoke(app, ["envoy", "render", "--policy", str(POLICY)])
    assert result.exit_code == 0, result.output
    text, needs = result.stdout, needs_of(load_policy(POLICY), Deadlines())
    assert all(f"- {name}\n" in text for name in HOST_HEADERS)
    assert "EA214" not in {each.rule.id for each in findings_of(text, needs)}
    for name in HOST_HEADERS:
        without = text.replace(f"- {name}\n", "- x-nothing\n", 1)
        found = [each for each in findings_of(without, needs) if each.rule.id == "EA214"]
        assert [name in each.what for each in found] == [True]
