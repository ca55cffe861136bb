"""Expectations are read as strictly as policies, and the shipped policy meets the shipped ones."""

from pathlib import Path

import pytest
import yaml

from authz.adapters.policy_file.expectations import load_expectations
from authz.adapters.policy_file.loader import load_policy, row_lines
from authz.adapters.policy_file.yaml import rendered
from authz.core.errors import PolicyError
from authz.core.policy.expectations import mismatches, uncovered
from authz.core.policy.simulation import Caller
from authz.demo.servers import shipped

POLICY_FILE = shipped("policies/truetick.yaml")
POLICY = load_policy(POLICY_FILE)
SHIPPED = load_expectations(shipped("policies/truetick.expectations.yaml"), POLICY)


def test_the_shipped_policy_meets_what_is_expected_of_it_row_by_row() -> None:
    assert mismatches(POLICY, SHIPPED) == []
    assert uncovered(POLICY, SHIPPED) == []


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("{needs: any}", "3:5: request is missing"),
        ("{request: GET /}", "3:5: needs exactly one of needs and expect"),
        ("{request: GET /, needs: any, expect: 200}", "3:5: needs exactly one of needs and expect"),
        ("{request: GET /, needs: servers:raed}", "3:22: servers:raed is neither a scope of the policy nor a need"),
        ("{request: GET /, needs: scope}", "3:22: scope is neither a scope of the policy nor a need"),
        ("{request: GET /, expect: 200}", "3:22: 200 is neither allow nor a status nor a reason"),
        ("{request: GET /, expect: allow, key: [x]}", "3:43: the scope x is not declared"),
        ("{request: GET /, needs: any, key: []}", "3:5: needs is about every key: key and account belong to expect"),
        ("{request: GET /, expect: allow, account: a}", "3:5: account is a key's: it belongs to key"),
        ("{request: [GET /, /x], needs: any}", "3:23: '/x': must be METHOD /path"),
        ("{reqest: GET /, needs: any}", "3:6: unknown field reqest; did you mean request?"),
    ],
)
def test_a_fault_is_named_with_its_line_and_column(folder: Path, group: str, message: str) -> None:
    path = folder / "expectations.yaml"
    path.write_text(f"version: 1\nexpectations:\n  - {group}\n")
    with pytest.raises(PolicyError) as raised:
        load_expectations(path, POLICY)
    assert f"{path}:{message}" in rendered(raised.value).splitlines()


def test_each_request_of_a_group_becomes_an_expectation(folder: Path) -> None:
    path = folder / "expectations.yaml"
    group = {
        "request": ["GET /a", "POST /b?c=d e"],
        "expect": 403,
        "key": ["console"],
        "account": "a1",
        "body": {"x": 1},
    }
    path.write_text(yaml.safe_dump({"version": 1, "expectations": [group]}))
    first, second = load_expectations(path, POLICY)
    assert (first.method, first.target, first.outcome) == ("GET", "/a", "403")
    assert (second.method, second.target, second.body) == ("POST", "/b?c=d e", b'{"x": 1}')
    assert first.caller == Caller(frozenset({"console"}), "a1")
    assert (first.where, second.where) == (("expectations", 0, "request", 0), ("expectations", 0, "request", 1))


def test_every_row_of_a_policy_has_a_line() -> None:
    lines, text = row_lines(POLICY_FILE), POLICY_FILE.read_text().splitlines()
    assert len(lines) == len(POLICY.routes)
    for (method, template, _), place in lines.items():
        file, _, line = place.rpartition(":")
        assert file == str(POLICY_FILE)
        assert template in text[int(line) - 1]
        assert method == "POST" or method in text[int(line) - 1] or template.startswith("/truetick.admin")
