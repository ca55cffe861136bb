"""Every value that is taken away by a null is refused by its name, or has its default.

`helm upgrade --reuse-values` from a release that did not know a value leaves it out in the same way.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests.test_values import POD, ROOT, Values

BASES: dict[str, Values] = {
    "standalone": {
        "portal": {"enabled": True},
        "monitoring": {"podMonitor": True},
        "adminTls": {"secretName": "authz-admin-tls"},
        "standalone": {"tls": {"secretName": "authz-tls"}},
        "tryOutStores": {"enabled": True},
    },
    "sidecar": {"mode": "sidecar", "sidecar": {"app": {"name": "web", "pod": POD}}},
}


def paths(defaults: Values, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in defaults.items():
        yield (*before, name)
        if isinstance(value, dict):
            yield from paths(value, (*before, name))


def without(base: Values, path: tuple[str, ...]) -> Values:
    changed: Values = json.loads(json.dumps(base))
    node: Any = changed
    for name in path[:-1]:
        node = node.setdefault(name, {})
    # What the base itself sets stays set: its default is another one.
    node.setdefault(path[-1], None)
    return changed


@pytest.mark.parametrize("mode", BASES)
def test_a_value_that_is_taken_away_is_named_or_has_its_default(mode: str) -> None:
    defaults = yaml.safe_load((ROOT / "deploy/kubernetes/chart/values.yaml").read_text())
    tried = list(paths(defaults))
    cases = [
        {"release": "authz", "values": each} for each in (BASES[mode], *(without(BASES[mode], it) for it in tried))
    ]
    command = [ROOT / ".venv/tools/manifests/bin/python", Path(__file__).with_name("render_cases.py")]
    done = subprocess.run(command, input=json.dumps(cases), check=True, capture_output=True, text=True)
    base, *results = json.loads(done.stdout)
    assert base["documents"]
    wrong = {
        ".".join(path): result.get("error", "another meaning")
        for path, result in zip(tried, results, strict=True)
        if result != base and f"missing property '{path[-1]}'" not in result.get("error", "")
    }
    assert wrong == {}
