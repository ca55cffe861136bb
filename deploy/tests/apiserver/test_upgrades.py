"""What the newest tag made is upgraded: a release of the chart with its own values, and each overlay; needs that tag.

A release's life within one chart is in `test_apiserver.py`.
"""

import json
import subprocess
import threading
from pathlib import Path

import pytest
from apiserver.cluster import KUBECTL, ROOT, Cluster
from apiserver.test_apiserver import KUBERNETES, complete_jobs, without_crds

_HELM = """
import helm_python, sys
with helm_python.Config(kubeconfig_path=sys.argv[1], namespace=sys.argv[2]) as cluster:
    cluster.uninstall("authz", timeout=60)
"""
_KINDS = (
    "deployments,services,configmaps,serviceaccounts,networkpolicies,poddisruptionbudgets,"
    "horizontalpodautoscalers,jobs,secrets"
)


def former(folder: Path) -> Path:
    """Unpack the manifests of the newest tag."""
    tag = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "--match", "v*"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    archive = subprocess.run(["git", "archive", tag, "deploy/kubernetes"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", folder], check=True, input=archive.stdout)
    return folder / "deploy/kubernetes"


def test_a_release_of_the_version_before_is_upgraded_with_its_values_and_uninstalled(
    cluster: Cluster, tmp_path: Path
) -> None:
    namespace = cluster.namespace("former")
    ended = threading.Event()
    completing = threading.Thread(target=complete_jobs, args=(cluster, namespace, ended))
    completing.start()
    python = ROOT / ".venv/tools/manifests/bin/python"
    program = Path(__file__).with_name("releases.py")
    try:
        chart: list[str | Path] = [KUBERNETES / "chart", namespace, former(tmp_path) / "chart"]
        done = subprocess.run(
            [python, program, cluster.kubeconfig, *chart], check=False, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        seen = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(step["revision"], step["status"]) for step in seen] == [(1, "deployed"), (2, "deployed")]
        portal = json.loads(cluster.kubectl("get", "deployment", "authz-portal", "-n", namespace, "-o", "json").stdout)
        (container,) = portal["spec"]["template"]["spec"]["containers"]
        settings = {each["name"]: each.get("value") for each in container["env"]}
        assert (settings["AUTHZ_MAIL_NOTICES"], settings["AUTHZ_PORTAL_LISTEN"]) == ("true", "[::]:8080")
        subprocess.run(
            [python, "-c", _HELM, cluster.kubeconfig, namespace], check=True, capture_output=True, timeout=120
        )
    finally:
        ended.set()
        completing.join()
    left = cluster.kubectl("get", _KINDS, "-n", namespace, "-o", "name").stdout.split()
    assert left == ["job.batch/authz-migrate"]


@pytest.mark.parametrize("overlay", ["sidecar", "standalone", "standalone-portal", "standalone-tls", "try-out"])
def test_an_overlay_of_the_version_before_becomes_the_present_one(
    cluster: Cluster, overlay: str, tmp_path: Path
) -> None:
    namespace = cluster.namespace(f"applied-{overlay}")
    for folder in (former(tmp_path), KUBERNETES):
        command: list[str | Path] = [KUBECTL, "kustomize", folder / "overlays" / overlay]
        text = without_crds(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        cluster.kubectl("delete", "job", "authz-migrate", "-n", namespace, "--ignore-not-found")
        done = cluster.kubectl("apply", "-n", namespace, "--validate=strict", "-f", "-", text=text)
        assert (done.returncode, done.stderr) == (0, "")
    # What the present release sets is there: nothing of the former one's stays in its place.
    differing = cluster.kubectl("diff", "-n", namespace, "-f", "-", text=text)
    assert (differing.returncode, differing.stdout) == (0, "")
