"""Prints the recipe for Envoy Gateway with what it attaches to, in one namespace: the input of egctl.

What is around the recipe is `around-envoy-gateway.yaml`.
"""

from pathlib import Path

import yaml

_HERE = Path(__file__).parent
RECIPE = _HERE.parents[1] / "kubernetes/recipes/envoy-gateway.yaml"


def text() -> str:
    """Return the input as YAML."""
    resources = [each for file in (_HERE / "around-envoy-gateway.yaml", RECIPE) for each in _resources(file)]
    return yaml.safe_dump_all(resources, sort_keys=False)


def _resources(file: Path) -> list[dict[str, dict[str, str]]]:
    found = list(yaml.safe_load_all(file.read_text()))
    for resource in found:
        if resource["kind"] != "GatewayClass":
            resource["metadata"].setdefault("namespace", "default")
    return found


if __name__ == "__main__":
    print(text(), end="")
