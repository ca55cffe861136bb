"""Blocks fit into any configuration: a sound one has no finding afterwards, and no mutilated one makes it fail."""

import copy
import json
import random
import re
from typing import Any

import pytest
import yaml
from support.envoy_faults import DATA, base, faults, mutilate, patched

from authz.adapters.envoy_config.blocks import aliases, socket_address
from authz.adapters.envoy_config.document import UnreadableConfig
from authz.adapters.envoy_config.forms import sources_of
from authz.adapters.envoy_config.merge import Addition, merge
from authz.adapters.policy_file.loader import load_policy
from authz.core.envoy_rules.finding import Severity
from authz.core.envoy_rules.matching import regex_matches
from authz.core.envoy_rules.model import configuration_of
from authz.core.envoy_rules.needs import Deadlines, Needs, needs_of
from authz.core.envoy_rules.registry import check
from authz.demo.servers import shipped

SWAPPED = str.maketrans("-_", "_-")
NEEDS = needs_of(load_policy(shipped("policies/truetick.yaml")), Deadlines())
ADDITION = Addition(NEEDS, {"mappers": []}, "127.0.0.1:9001")
BOOTSTRAPS = ["plain", "tls-redirect", "proxy-protocol", "azure"]
# What a merge leaves to the operator: who is checked and by what, other clusters and addresses, and logs of his own.
_LEFT = (
    "101 102 103 104 105 106 109 110 117 118 119 120 121 122 123 124 228 230 231 303 304 305 405 407 501 "
    "502 511 512 513 514 521 522 523 526 531 602 611 612 621"
)
LEFT = {f"EA{number}" for number in _LEFT.split()}


def alarms(config: Any) -> set[str]:  # noqa: ANN401 -- YAML
    found = check(configuration_of(sources_of(config)), NEEDS)
    return {each.rule.id for each in found if each.severity is not Severity.NOTE}


@pytest.mark.parametrize("name", BOOTSTRAPS)
def test_a_sound_bootstrap_has_no_finding_afterwards(name: str) -> None:
    config = yaml.safe_load((DATA / "sound" / f"{name}.yaml").read_text())
    assert merge(config, ADDITION) == []
    assert alarms(config) == set()
    again = copy.deepcopy(config)
    merge(again, ADDITION)
    assert again == config


def test_the_shipped_configuration_needs_nothing_but_its_replies() -> None:
    config, before = base(), base()
    merge(config, ADDITION)
    for each in (config, before):
        listener = each["static_resources"]["listeners"][0]
        del listener["filter_chains"][0]["filters"][0]["typed_config"]["local_reply_config"]
    assert config == before


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault["name"])
def test_a_merge_mends_what_the_policy_decides(fault: dict[str, Any]) -> None:
    config = patched(fault)
    merge(config, ADDITION)
    assert alarms(config) <= {fault["rule"], *fault.get("also", ())} & LEFT


@pytest.mark.parametrize("number", range(5))
def test_no_mutilated_bootstrap_makes_the_merge_fail(number: int) -> None:
    chance = random.Random(number)  # noqa: S311 -- reproducible
    texts = [json.dumps(base())]
    texts += [json.dumps(yaml.safe_load((DATA / "sound" / f"{name}.yaml").read_text())) for name in BOOTSTRAPS]
    for _ in range(30):
        config = json.loads(texts[number])
        mutilate(config, chance)
        try:
            merge(config, ADDITION)
        except UnreadableConfig:
            continue


def test_the_aliases_of_a_header_are_all_but_itself() -> None:
    assert aliases(Needs()) == ["x[^a-z0-9-]api[^a-z0-9]key|x-api[^a-z0-9-]key"]
    for key in ("x-api-key", "x-key", "a-b-c-d", "api_key", "x-api_key", "a.b-c"):
        (regex,) = aliases(Needs(key_headers=(key,)))
        for name in (re.sub("[-_]", ".", key), re.sub("[-_]", "~", key, count=1), key.translate(SWAPPED)):
            assert regex_matches(regex, name), (regex, name)
        assert not regex_matches(regex, key)
    assert aliases(Needs(key_headers=("token", "authorization"))) == []


def test_addresses_have_the_form_of_envoy() -> None:
    assert socket_address("unix:/run/a") == {"pipe": {"path": "/run/a"}}
    assert socket_address("[::1]:1") == {"socket_address": {"address": "::1", "port_value": 1}}
    assert socket_address(":9001") == {"socket_address": {"address": "127.0.0.1", "port_value": 9001}}
    for wrong in ("", "a", "a:", "a:b", "a:0", "a:65536"):
        with pytest.raises(ValueError, match="is not HOST:PORT"):
            socket_address(wrong)
