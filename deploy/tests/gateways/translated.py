"""The translated recipes, and a real Envoy that judges them.

What they must contain is in the tests.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from authz.demo.servers import package_folder

DATA = Path(__file__).parents[3] / "tests/data"


def file_of(name: str) -> Path:
    """Return the file with the translation of a recipe."""
    return DATA / f"{name.replace('-', '_')}.yaml"


def translated(name: str) -> dict[str, Any]:
    """Return the translation of a recipe."""
    found: dict[str, Any] = yaml.load(file_of(name).read_text(), Loader=yaml.CSafeLoader)
    return found


def untyped(resource: dict[str, Any]) -> dict[str, Any]:
    """Return a resource as a bootstrap has it, where its type is known."""
    return {name: part for name, part in resource.items() if name != "@type"}


def assert_guarded(filter_: dict[str, Any]) -> None:
    """Assert what the recipes for Envoy Gateway and Istio guarantee of the ext_authz filter."""
    assert not filter_.get("failureModeAllow")
    assert filter_["statusOnError"] == {"code": "ServiceUnavailable"}
    assert filter_["grpcService"]["timeout"] == "0.200s"
    assert filter_["encodeRawHeaders"]
    assert filter_["validateMutations"]
    assert filter_["decoderHeaderMutationRules"]["disallowAll"]
    assert filter_["decoderHeaderMutationRules"]["disallowIsError"]


def validated(listeners: list[dict[str, Any]], clusters: list[dict[str, Any]], folder: Path) -> None:
    """Have Envoy read a bootstrap of these; fails with Envoy's message."""
    config = folder / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}}))
    envoy = package_folder("envoy") / "_bin" / "envoy"
    done = subprocess.run([envoy, "--mode", "validate", "-c", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
