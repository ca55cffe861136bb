"""Each fault of a configuration is found by its rule and no other; each rule and SECURITY comment has a fault."""

import re
from typing import Any

import pytest
from support.envoy_faults import base, faults, patched

from authz.adapters.envoy_config.forms import sources_of
from authz.adapters.policy_file.loader import load_policy
from authz.core.envoy_rules.finding import Finding, Severity
from authz.core.envoy_rules.model import configuration_of
from authz.core.envoy_rules.needs import Deadlines, needs_of
from authz.core.envoy_rules.registry import RULES, check
from authz.demo.servers import shipped

NEEDS = needs_of(load_policy(shipped("policies/truetick.yaml")), Deadlines())


def checked(config: Any) -> list[Finding]:  # noqa: ANN401 -- YAML
    return check(configuration_of(sources_of(config)), NEEDS)


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault["name"])
def test_a_fault_is_found_by_its_rule_alone_with_reason_and_fix(fault: dict[str, Any]) -> None:
    findings = checked(patched(fault))
    found = {each.rule.id for each in findings}
    assert fault["rule"] in found
    assert found <= {fault["rule"], *fault.get("also", ())}
    assert all(each.what and each.rule.why and each.fix for each in findings)
    if "security" in fault:
        assert any(each.rule.id == fault["rule"] and each.severity is not Severity.NOTE for each in findings)


def test_the_shipped_configuration_has_no_finding() -> None:
    assert checked(base()) == []


def test_every_rule_has_a_fault() -> None:
    assert {rule.id for rule in RULES} == {fault["rule"] for fault in faults()}
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert len(faults()) >= 40


def test_every_security_comment_has_a_fault() -> None:
    lines = shipped("envoy.yaml").read_text()
    comments = re.findall(r"# SECURITY: (.*)", lines)
    covered = [fault["security"] for fault in faults() if "security" in fault]
    assert len(comments) >= 19
    assert [text for text in comments if not any(text.startswith(known) for known in covered)] == []
    assert [known for known in covered if not any(text.startswith(known) for text in comments)] == []
