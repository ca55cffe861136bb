"""Renders the chart with Helm's own engine: one YAML text for each template, as JSON on standard output.

It runs in the environment `.venv/tools/manifests`, which has the engine.
"""

import json
import sys
from pathlib import Path

import helm_python
import yaml

CHART = Path(__file__).with_name("chart")


def main(release: str, namespace: str, *values_files: str) -> None:
    """Render with the values of the given files, in order; Helm checks them by values.schema.json."""
    values: dict[str, object] = {}
    for file in values_files:
        values |= yaml.safe_load(Path(file).read_text()) or {}
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        rendered = chart.render(values, name=release, namespace=namespace)
    json.dump({Path(name).name: text for name, text in rendered.items() if text.strip()}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
