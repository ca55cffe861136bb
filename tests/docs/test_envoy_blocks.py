"""`authz envoy check` finds nothing in the configurations that the documentation and deploy/ show."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.envoy_faults import base

from authz.adapters.envoy_config.forms import sources_of
from authz.adapters.policy_file.loader import load_policy
from authz.core.envoy_rules.finding import Severity
from authz.core.envoy_rules.model import configuration_of
from authz.core.envoy_rules.needs import Deadlines, Needs, needs_of
from authz.core.envoy_rules.registry import check
from authz.demo.servers import shipped

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "envoy.md").read_text()
BLOCKS = dict(re.findall(r"```yaml\n# ([a-z-]+)\n(.*?)```", TEXT, re.DOTALL))
POLICY = needs_of(load_policy(shipped("policies/truetick.yaml")), Deadlines())


def alarms(config: Any, needs: Needs) -> list[str]:  # noqa: ANN401 -- YAML
    found = check(configuration_of(sources_of(config)), needs)
    return [f"{each.rule.id} {each.what}" for each in found if each.severity is not Severity.NOTE]


def manager(config: Any) -> Any:  # noqa: ANN401 -- YAML
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def test_the_smallest_block_raises_no_alarm() -> None:
    (block,) = re.findall(r"```yaml\n(http_filters:.*?)```", TEXT, re.DOTALL)
    config = base()
    whole = manager(config)
    kept = {"@type": whole["@type"], "stat_prefix": "api"}
    kept["route_config"] = {
        "virtual_hosts": [
            {
                "name": "api",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend-grpc"}}],
            }
        ]
    }
    whole.clear()
    whole.update(kept | yaml.safe_load(block) | yaml.safe_load(BLOCKS["connection-manager"]))
    assert alarms(config, Needs()) == []


@pytest.mark.parametrize("name", sorted(set(BLOCKS) - {"connection-manager"}))
def test_the_block_of_a_load_balancer_raises_no_alarm(name: str) -> None:
    config, block = base(), yaml.safe_load(BLOCKS[name])
    whole = manager(config)
    if filters := block.pop("listener_filters", None):
        config["static_resources"]["listeners"][0]["listener_filters"] = filters
    else:
        authz = next(each for each in whole["http_filters"] if each["name"].endswith("ext_authz"))
        authz["typed_config"]["allowed_headers"]["patterns"].append({"exact": "x-envoy-external-address"})
    if first := block.pop("first_filter", None):
        whole["http_filters"].insert(0, first)
    whole.update(copy.deepcopy(block))
    assert alarms(config, POLICY) == []


def test_the_configuration_of_the_chart_raises_no_alarm() -> None:
    files = [ROOT / "deploy/kubernetes/chart/files/envoy-sidecar.yaml"]
    assert [alarms(yaml.safe_load(file.read_text()), POLICY) for file in files] == [[]]
