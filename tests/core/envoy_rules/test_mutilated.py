"""No configuration makes the rules fail: mutilated ones have findings, or none, or are refused with a message."""

import copy
import random

import pytest
import yaml
from support.envoy_faults import DATA, base, mutilate

from authz.adapters.envoy_config.document import UnreadableConfig, lines, parsed
from authz.adapters.envoy_config.forms import sources_of
from authz.adapters.policy_file.loader import load_policy
from authz.core.envoy_rules.model import configuration_of
from authz.core.envoy_rules.needs import Deadlines, needs_of
from authz.core.envoy_rules.registry import check
from authz.demo.servers import shipped

NEEDS = needs_of(load_policy(shipped("policies/truetick.yaml")), Deadlines())
RUNS = 60
CONFIGS = [base(), *(yaml.safe_load(file.read_text()) for file in sorted((DATA / "sound").glob("*.yaml")))]


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
