"""The CRDs of the gateways and of the Prometheus operator accept the recipes, with their CEL rules."""

import subprocess
from pathlib import Path

import pytest
import yaml
from apiserver.cluster import KUBECTL, ROOT, Cluster
from apiserver.custom_resources import MODULES, establish

KUBERNETES = ROOT / "deploy/kubernetes"


def recipe(project: str) -> str:
    if project != "prometheus":
        return (KUBERNETES / "recipes" / f"{project}.yaml").read_text()
    command: list[str | Path] = [KUBECTL, "kustomize", KUBERNETES / "overlays/standalone-admin-tls"]
    built = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return yaml.safe_dump_all(m for m in yaml.safe_load_all(built) if m["kind"] == "PodMonitor")


@pytest.mark.parametrize("project", MODULES)
def test_the_crds_accept_the_recipe(cluster: Cluster, project: str) -> None:
    establish(cluster, project)
    namespace = cluster.namespace(f"recipe-{project}")
    text = recipe(project)
    done = cluster.kubectl("apply", "-n", namespace, "--dry-run=server", "--validate=strict", "-f", "-", text=text)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(server dry run)") == len(list(yaml.safe_load_all(text)))
