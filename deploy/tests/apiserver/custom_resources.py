"""The CRDs of the gateways and of the Prometheus operator, from their Go modules, on the API server.

Which resources they must accept is in the tests.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml
from apiserver.cluster import Cluster

# Go modules hold the CRDs as files; nothing is built.
MODULES = {
    "envoy-gateway": ("github.com/envoyproxy/gateway@v1.9.1", "charts/gateway-crds-helm/templates/generated/*.yaml"),
    "istio": ("istio.io/istio@v0.0.0-20260827124520-eed52ebb66ad", "manifests/charts/base/files/crd-all.gen.yaml"),
    "contour": ("github.com/projectcontour/contour@v1.33.8", "examples/contour/01-crds.yaml"),
    "prometheus": (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    ),
}


def crds(project: str) -> Iterator[str]:
    module, pattern = MODULES[project]
    environment = {**os.environ, "GOTOOLCHAIN": "go1.27.3", "GOFLAGS": ""}
    done = subprocess.run(["go", "mod", "download", "-json", module], check=True, capture_output=True, env=environment)
    for file in sorted(Path(json.loads(done.stdout)["Dir"]).glob(pattern)):
        text = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("{{"))
        yield from (part for part in text.split("\n---\n") if "kind: CustomResourceDefinition" in part)


def establish(cluster: Cluster, project: str) -> None:
    """Create a project's CRDs, and wait until the server serves them."""
    names = []
    for crd in crds(project):
        assert cluster.kubectl("apply", "--server-side", "-f", "-", text=crd).returncode == 0
        names.append(yaml.safe_load(crd)["metadata"]["name"])
    assert names
    waited = cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in names))
    assert waited.returncode == 0, waited.stderr
