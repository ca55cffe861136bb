"""Prints a recipe with what it attaches to, the input of the gateway's own tool: around.py envoy-gateway, or istio.

What is around a recipe is `around-NAME.yaml`. `around.py istio mesh` prints the mesh's configuration, which the recipe
has in its comment.
"""

import sys
from itertools import dropwhile, takewhile
from pathlib import Path

import yaml

_HERE = Path(__file__).parent
_RECIPES = _HERE.parents[1] / "kubernetes/recipes"
_CLUSTER_WIDE = {"GatewayClass"}
_INDENTED = "#   "


def text(name: str) -> str:
    """Return the input as YAML, in one namespace where nothing else is said."""
    files = (_HERE / f"around-{name}.yaml", recipe(name))
    return yaml.safe_dump_all((each for file in files for each in _resources(file)), sort_keys=False)


def recipe(name: str) -> Path:
    """Return the file of a recipe."""
    return _RECIPES / f"{name}.yaml"


def mesh() -> str:
    """Return the configuration of Istio's mesh as YAML."""
    lines = dropwhile(
        lambda line: "extensionProviders:" not in line, recipe("istio").read_text().splitlines(keepends=True)
    )
    return "".join(line.removeprefix(_INDENTED) for line in takewhile(lambda line: line.startswith(_INDENTED), lines))


def _resources(file: Path) -> list[dict[str, dict[str, str]]]:
    found = list(yaml.safe_load_all(file.read_text()))
    for resource in found:
        if resource["kind"] not in _CLUSTER_WIDE:
            resource["metadata"].setdefault("namespace", "default")
    return found


if __name__ == "__main__":
    print(mesh() if sys.argv[2:] == ["mesh"] else text(sys.argv[1]), end="")
