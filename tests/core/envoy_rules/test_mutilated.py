"""No configuration makes the rules fail: mutilated ones have findings, or none, or are refused with a message."""

import copy
import random
from typing import Any

import pytest
import yaml
from support.envoy_faults import DATA, base

from authz.adapters.envoy_config.document import UnreadableConfig, lines, parsed
from authz.adapters.envoy_config.forms import sources_of
from authz.adapters.policy_file.loader import load_policy
from authz.core.envoy_rules.model import configuration_of
from authz.core.envoy_rules.needs import Deadlines, needs_of
from authz.core.envoy_rules.node import Node
from authz.core.envoy_rules.registry import check
from authz.demo.servers import shipped

NEEDS = needs_of(load_policy(shipped("policies/truetick.yaml")), Deadlines())
WRONG: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "%",
    "1s",
    [],
    [[]],
    {},
    {"": None},
    [None],
    {"a": [{}]},
]
WRONG += [{"@type": "x/y.HttpConnectionManager"}, {"regex": "(" * 50}, "\x00", {"name": {}}, [{"name": 1}], {1: 2}]
RUNS = 60
CONFIGS = [base(), *(yaml.safe_load(file.read_text()) for file in sorted((DATA / "sound").glob("*.yaml")))]


def mutilate(config: Any, chance: random.Random) -> None:  # noqa: ANN401 -- YAML
    nodes = [node for node in Node(config).walk() if isinstance(node.value, dict | list) and node.value]
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        value = chance.choice(nodes).value
        if not value:
            continue
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        form = chance.randrange(5)
        if form == 0:
            del value[key]
        elif form == 1:
            value[key] = [value[key]]
        elif form == 2 and isinstance(value, dict):
            value[key] = value.pop(chance.choice(list(value)))
        elif form == 3:
            value[key] = {"@type": str(value[key])[:40], "name": value[key]}
        else:
            value[key] = copy.deepcopy(chance.choice(WRONG))


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_a_mutilated_configuration_is_checked_or_refused(number: int) -> None:
    chance = random.Random(number)  # noqa: S311 -- reproducible
    for _ in range(RUNS):
        config = copy.deepcopy(CONFIGS[number])
        mutilate(config, chance)
        try:
            found = check(configuration_of(sources_of(config)), NEEDS)
        except UnreadableConfig:
            continue
        assert all(each.what and each.fix for each in found)


@pytest.mark.parametrize("number", range(4))
def test_a_mutilated_text_is_read_or_refused(number: int) -> None:
    chance = random.Random(number)  # noqa: S311 -- reproducible
    files = [shipped("envoy.yaml"), *sorted((DATA / "sound").glob("*.yaml"))]
    for _ in range(RUNS // 2):
        text = chance.choice(files).read_text()
        start = chance.randrange(len(text))
        cut = (
            text[:start] + chance.choice(["", "{", "]", "&a ", "*a", "\t", ":", "\x07", "- ", '"']) + text[start + 3 :]
        )
        try:
            parsed(cut)
        except UnreadableConfig:
            continue
        lines(cut, [("static_resources", "listeners", 0)])
