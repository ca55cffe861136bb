"""Sound configurations of other projects raise no alarm, and the same with a fault does."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.envoy_faults import DATA

from authz.adapters.envoy_config.document import parsed
from authz.adapters.envoy_config.forms import sources_of
from authz.core.envoy_rules.finding import Finding, Severity
from authz.core.envoy_rules.model import configuration_of
from authz.core.envoy_rules.needs import Needs
from authz.core.envoy_rules.node import Node
from authz.core.envoy_rules.registry import check

SOUND = sorted((DATA / "sound").glob("*.yaml"))
RAW = ("encode_raw_headers", "encodeRawHeaders")


def alarms(config: Any) -> list[Finding]:  # noqa: ANN401 -- YAML
    found = check(configuration_of(sources_of(config)), Needs())
    return [each for each in found if each.severity is not Severity.NOTE]


@pytest.mark.parametrize("file", SOUND, ids=lambda file: file.stem)
def test_a_sound_configuration_raises_no_alarm(file: Path) -> None:
    assert alarms(parsed(file.read_text())) == []


@pytest.mark.parametrize("file", SOUND, ids=lambda file: file.stem)
def test_a_fault_in_it_does(file: Path) -> None:
    config = yaml.safe_load(file.read_text())
    settings = [node.value for node in Node(config).walk() if any(node[name].is_on for name in RAW)]
    assert settings
    for change, rule in (
        ({"failure_mode_allow": True}, "EA111"),
        ({"clear_route_cache": True}, "EA117"),
        ({"status_on_error": {"code": "OK"}, "statusOnError": None}, "EA112"),
        ({"encode_raw_headers": False, "encodeRawHeaders": False}, "EA211"),
    ):
        faulty = copy.deepcopy(config)
        for node in Node(faulty).walk():
            if any(node[name].is_on for name in RAW):
                node.value.update(change)
        assert rule in {each.rule.id for each in alarms(faulty)}


@pytest.mark.parametrize("file", SOUND, ids=lambda file: file.stem)
def test_without_the_filter_each_listener_that_forwards_is_found(file: Path) -> None:
    config = yaml.safe_load(file.read_text())
    for node in Node(config).walk():
        for name in ("http_filters", "httpFilters"):
            if isinstance(node.value, dict) and name in node.value:
                node.value[name] = [each for each in node.value[name] if "ext_authz" not in str(each)]
    assert "EA101" in {each.rule.id for each in alarms(config)}


def test_there_are_ten_of_them() -> None:
    assert len(SOUND) >= 10
