"""Faulty Envoy configurations as patches of the shipped one (tests/data/envoy_configs/faults.yaml)."""

import copy
import random
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from authz.core.envoy_rules.node import Node
from authz.demo.servers import shipped

DATA = Path(__file__).parents[1] / "data" / "envoy_configs"
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


@cache
def faults() -> list[dict[str, Any]]:
    """Return all faults, in the order of the file."""
    found: list[dict[str, Any]] = yaml.safe_load((DATA / "faults.yaml").read_text())
    return found


@cache
def _base() -> Any:  # noqa: ANN401 -- YAML
    return yaml.safe_load(shipped("envoy.yaml").read_text())


def base() -> Any:  # noqa: ANN401 -- YAML
    """Return a copy of the shipped configuration, in which no two values are one."""
    return _apart(_base())


def patched(fault: dict[str, Any]) -> Any:  # noqa: ANN401 -- YAML
    """Return the shipped configuration with a fault."""
    config = base()
    for path in fault.get("remove", ()):
        parent, key = _found(config, path)
        del parent[key]
    for path, value in fault.get("set", {}).items():
        parent, key = _found(config, path)
        parent[key] = copy.deepcopy(value)
    for path, value in fault.get("append", {}).items():
        parent, key = _found(config, path)
        parent[key].append(copy.deepcopy(value))
    for path, value in fault.get("insert", {}).items():
        parent, key = _found(config, path)
        parent.insert(key, copy.deepcopy(value))
    if swap := fault.get("swap"):
        parent, key = _found(config, swap[0])
        items, (one, other) = parent[key], swap[1:]
        items[one], items[other] = items[other], items[one]
    if "wrap" in fault:
        entry = _anchors(config)["authz-entry"]
        inner = {"name": "a", "typed_config": entry["typed_config"]}
        kind = "x/envoy.extensions.common.matching.v3.ExtensionWithMatcher"
        entry["typed_config"] = {"@type": kind, "extension_config": inner, "xds_matcher": {"matcher_tree": {}}}
    return config


def mutilate(config: Any, chance: random.Random) -> None:  # noqa: ANN401 -- YAML
    """Drop, move, wrap or replace a few values, at random."""
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


def _found(config: Any, path: str) -> tuple[Any, Any]:  # noqa: ANN401 -- YAML
    """Return the collection that a path leads to, and the last step."""
    first, *steps = path.split("/")
    node = _anchors(config)[first]
    keys = [int(step) if step.isdigit() else step for step in steps]
    for key in keys[:-1]:
        node = node[key]
    return node, keys[-1]


def _anchors(config: Any) -> dict[str, Any]:  # noqa: ANN401 -- YAML
    listener = config["static_resources"]["listeners"][0]
    chain = listener["filter_chains"][0]
    manager = chain["filters"][0]["typed_config"]
    entry = next(each for each in manager["http_filters"] if each["name"].endswith("ext_authz"))
    found = {"root": config, "listener": listener, "chain": chain, "manager": manager, "authz-entry": entry}
    found["authz"] = entry.get("typed_config")
    found |= {f"cluster:{each['name']}": each for each in config["static_resources"]["clusters"]}
    if "route_config" in manager:
        host = manager["route_config"]["virtual_hosts"][0]
        found |= {"host": host} | {f"route:{each['name']}": each for each in host["routes"] if "name" in each}
    return found


def _apart(value: Any) -> Any:  # noqa: ANN401 -- YAML
    if isinstance(value, dict):
        return {name: _apart(inner) for name, inner in value.items()}
    return [_apart(inner) for inner in value] if isinstance(value, list) else value
