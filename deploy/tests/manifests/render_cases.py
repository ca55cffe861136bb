"""Renders the chart with many values in one process: JSON lists on standard input and output, one entry for each case.

It runs in the environment `.venv/tools/manifests`, which has Helm's engine. A case is `{"release", "values"}`, its
result `{"documents"}` or `{"error"}`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "kubernetes/chart"


def main() -> None:
    """Render every case."""
    with helm_python.Chart.load(str(CHART)) as chart:
        json.dump([_result(chart, case) for case in json.load(sys.stdin)], sys.stdout)


def _result(chart: helm_python.Chart, case: dict[str, Any]) -> dict[str, Any]:
    try:
        chart.validate_schema(case["values"])
        rendered = chart.render(case["values"], name=case["release"], namespace="any")
    except helm_python.HelmError as error:
        return {"error": str(error)}
    loaded = [each for text in rendered.values() for each in yaml.load_all(text, _Loader) if each]
    return {"documents": loaded}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # where libyaml is missing, too
    """A loader that refuses what Kubernetes refuses: the same key twice in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 -- PyYAML's
        keys = [self.construct_object(key) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise ValueError(f"a key twice among {keys}")
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


if __name__ == "__main__":
    main()
