"""A real API server accepts what is shipped: every field, Pod Security "restricted", and a release's whole life."""

import json
import re
import subprocess
import threading
from pathlib import Path

import pytest
import yaml
from apiserver.cluster import KUBECTL, ROOT, Cluster

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())


def built(overlay: str) -> str:
    command: list[str | Path] = [KUBECTL, "kustomize", KUBERNETES / "overlays" / overlay]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def without_crds(text: str) -> str:
    return "---\n".join(part for part in re.split(r"^---\n", text, flags=re.MULTILINE) if "coreos" not in part)


def apply(cluster: Cluster, namespace: str, text: str) -> subprocess.CompletedProcess[str]:
    return cluster.kubectl("apply", "-n", namespace, "--dry-run=server", "--validate=strict", "-f", "-", text=text)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_accepts_every_field_without_a_warning(cluster: Cluster, overlay: str) -> None:
    namespace = cluster.namespace(f"fields-{overlay}")
    text = without_crds(built(overlay))
    done = apply(cluster, namespace, text)
    # With `warn`, the server says what a pod of a Deployment would violate.
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("(server dry run)") == text.count("\nkind: ")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_admitted_where_restricted_is_enforced(cluster: Cluster, overlay: str) -> None:
    namespace = cluster.namespace(f"pods-{overlay}")
    made = 0
    for manifest in yaml.safe_load_all(built(overlay)):
        template = manifest.get("spec", {}).get("template") if manifest["kind"] != "HorizontalPodAutoscaler" else None
        if template:
            pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": f"pod-{made}"}}
            done = apply(cluster, namespace, json.dumps(pod))
            assert done.returncode == 0, done.stderr
            made += 1
    assert made >= 2


def test_restricted_is_enforced_here(cluster: Cluster) -> None:
    namespace = cluster.namespace("enforced")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }
    done = apply(cluster, namespace, json.dumps(pod))
    assert done.returncode != 0
    assert "violates PodSecurity" in done.stderr


def test_an_unknown_field_is_refused_here(cluster: Cluster) -> None:
    namespace = cluster.namespace("strict")
    done = apply(cluster, namespace, built("standalone").replace("minReadySeconds", "minReadySecond"))
    assert done.returncode != 0
    assert "minReadySecond" in done.stderr


def test_a_release_is_installed_upgraded_and_rolled_back(cluster: Cluster) -> None:
    namespace = cluster.namespace("release")
    ended = threading.Event()
    completing = threading.Thread(target=complete_jobs, args=(cluster, namespace, ended))
    completing.start()
    try:
        program = Path(__file__).with_name("releases.py")
        python = ROOT / ".venv/tools/manifests/bin/python"
        command: list[str | Path] = [python, program, cluster.kubeconfig, KUBERNETES / "chart", namespace]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    finally:
        ended.set()
        completing.join()
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(step["revision"], step["status"]) for step in seen] == [(n, "deployed") for n in (1, 2, 3, 4)]
    deployment = json.loads(cluster.kubectl("get", "deployment", "authz", "-n", namespace, "-o", "json").stdout)
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 15
    assert "authz-portal" not in cluster.kubectl("get", "deployments", "-n", namespace).stdout


def complete_jobs(cluster: Cluster, namespace: str, ended: threading.Event) -> None:
    """Do what the controller of Jobs would do, which does not run here: report success of each Job."""
    while not ended.wait(0.3):
        for job in json.loads(cluster.kubectl("get", "jobs", "-n", namespace, "-o", "json").stdout or '{"items": []}')[
            "items"
        ]:
            if not job.get("status", {}).get("succeeded"):
                at = job["metadata"]["creationTimestamp"]
                conditions = [{"type": kind, "status": "True"} for kind in ("SuccessCriteriaMet", "Complete")]
                status = {"startTime": at, "completionTime": at, "succeeded": 1, "conditions": conditions}
                patch = json.dumps({"status": status})
                name = job["metadata"]["name"]
                cluster.kubectl(
                    "patch", "job", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
                )
