"""The kustomize components on what users have: Deployments of their own, several files of a policy, TLS for the probes.

That the shipped overlays mean what the chart means is in `test_manifests.py`.
"""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import generate
import pytest
import yaml

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "deploy/kubernetes"
Manifest = dict[str, Any]
APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {authz/sidecar: "true"}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {mine: kept}}
    spec:
      hostNetwork: true
      shareProcessNamespace: true
      terminationGracePeriodSeconds: 120
      securityContext: {runAsUser: 1000, fsGroup: 2000}
      imagePullSecrets: [{name: registry}]
      initContainers:
      - {name: prepare, image: prepare:1}
      - {name: shipper, image: shipper:1, restartPolicy: Always}
      containers:
      - name: web
        image: web:1
        ports: [{name: api, containerPort: 8081}]
        volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, emptyDir: {}}]
"""
FILES = {"orders.yaml": "routes: []\n", "policy.yaml": "version: 2\ninclude: [orders.yaml]\n"}


def built(folder: Path, components: list[str], app: str = APP, more: str = "") -> dict[str, Manifest]:
    """Return what kustomize makes of the base, an application and components, by kind and name."""
    kubernetes = os.path.relpath(KUBERNETES, folder.resolve())
    (folder / "app.yaml").write_text(app)
    paths = [f"{kubernetes}/components/{name}" for name in components]
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources: [{kubernetes}/base, app.yaml]\ncomponents: {json.dumps(paths)}\n{more}"
    )
    command: list[str | Path] = [ROOT / ".venv/tools/manifests/bin/kubectl", "kustomize", folder]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in yaml.safe_load_all(text)}


def pod_of(manifest: Manifest) -> Manifest:
    pod: Manifest = manifest["spec"]["template"]["spec"]
    return pod


def names(items: list[Manifest]) -> list[str]:
    return [str(item["name"]) for item in items]


def test_a_deployment_keeps_what_it_has_beside_the_sidecars(tmp_path: Path) -> None:
    deployment = built(tmp_path, ["sidecar"])["Deployment/web"]
    pod = pod_of(deployment)
    assert names(pod["initContainers"]) == ["authz", "envoy", "prepare", "shipper"]
    assert pod["containers"] == pod_of(yaml.safe_load(APP))["containers"]
    assert "data" in names(pod["volumes"])
    assert len(set(names(pod["volumes"]))) == len(pod["volumes"])
    assert (pod["securityContext"], pod["imagePullSecrets"]) == (
        {"runAsUser": 1000, "fsGroup": 2000},
        [{"name": "registry"}],
    )
    metadata = deployment["spec"]["template"]["metadata"]
    assert metadata["annotations"].pop("authz/policy-sha256")
    assert metadata == {"labels": {"app": "web", "authz/protected": "true"}, "annotations": {"mine": "kept"}}


def test_a_protected_pod_shares_neither_network_nor_processes(tmp_path: Path) -> None:
    pod = pod_of(built(tmp_path, ["sidecar"])["Deployment/web"])
    assert [pod[name] for name in ("hostNetwork", "hostPID", "shareProcessNamespace")] == [False] * 3


def test_the_sidecars_have_no_token_of_the_application(tmp_path: Path) -> None:
    pod = pod_of(built(tmp_path, ["sidecar"])["Deployment/web"])
    # Where a container has a mount at this path, Kubernetes adds no token to it.
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    for container in pod["initContainers"][:2]:
        (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == path]
        (volume,) = [each for each in pod["volumes"] if each["name"] == mount["name"]]
        assert set(volume) == {"name", "emptyDir"}


def test_the_patch_changes_nothing_when_it_is_applied_again(tmp_path: Path) -> None:
    once = built(tmp_path, ["sidecar", "admin-tls"])["Deployment/web"]
    assert built(tmp_path, ["sidecar", "admin-tls"], yaml.safe_dump(once))["Deployment/web"] == once


def test_a_patch_of_ones_own_comes_after_the_component(tmp_path: Path) -> None:
    longer = "{kind: Deployment, metadata: {name: web}, spec: {template: {spec: {terminationGracePeriodSeconds: 135}}}}"
    more = f'patches:\n- target: {{kind: Deployment, name: web}}\n  patch: "{longer}"\n'
    assert pod_of(built(tmp_path, ["sidecar"], more=more)["Deployment/web"])["terminationGracePeriodSeconds"] == 135


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_every_kind_that_has_pods_for_good_gets_the_sidecars(tmp_path: Path, kind: str) -> None:
    found = built(tmp_path, ["sidecar", "admin-tls"], APP.replace("kind: Deployment", f"kind: {kind}"))[f"{kind}/web"]
    expected = built(tmp_path, ["sidecar", "admin-tls"])["Deployment/web"]
    assert found["spec"] == expected["spec"]


def test_images_are_replaced_in_the_sidecars_and_the_portal_alone(tmp_path: Path) -> None:
    digest = f"sha256:{'a' * 64}"
    more = f"images:\n- {{name: authz, newName: registry.example/authz, digest: '{digest}'}}\n"
    found = built(tmp_path, ["sidecar", "portal", "migrate"], more=more)
    authz, envoy = pod_of(found["Deployment/web"])["initContainers"][:2]
    assert authz["image"] == pod_of(found["Job/authz-migrate"])["containers"][0]["image"]
    assert authz["image"] == f"registry.example/authz@{digest}"
    assert envoy["image"].startswith("envoyproxy/envoy:")
    assert pod_of(found["Deployment/authz-portal"])["containers"][0]["image"].startswith("authz-portal:")


def test_helm_puts_the_sidecars_before_the_init_containers_as_well(tmp_path: Path) -> None:
    application = yaml.safe_load(APP)["spec"]["template"]["spec"]
    pod = {name: value for name, value in application.items() if name in {"containers", "initContainers"}}
    values = {"mode": "sidecar", "sidecar": {"app": {"name": "web", "pod": pod}}}
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    _, _, deployment, _ = yaml.safe_load_all(generate.render(tmp_path / "values.yaml")["sidecar.yaml"])
    assert names(pod_of(deployment)["initContainers"]) == ["authz", "envoy", "prepare", "shipper"]


@pytest.mark.parametrize(
    ("components", "name", "containers"),
    [
        (["standalone", "admin-tls"], "authz", "containers"),
        (["portal", "admin-tls"], "authz-portal", "containers"),
        (["sidecar", "admin-tls"], "web", "initContainers"),
    ],
)
def test_every_probe_of_a_listener_with_tls_uses_it(
    tmp_path: Path, components: list[str], name: str, containers: str
) -> None:
    pod = pod_of(built(tmp_path, components)[f"Deployment/{name}"])
    container = pod[containers][0]
    probes = [container[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert [probe["scheme"] for probe in probes] == ["HTTPS"] * 3
    files = {each["name"]: each["value"] for each in container["env"] if "ADMIN_" in each["name"]}
    # A kubelet has no certificate: with a CA for clients, no pod would become ready.
    assert not any("CLIENT" in variable for variable in files)
    assert {value for variable, value in files.items() if variable.endswith("_FILE")} == {
        "/etc/authz/admin-tls/tls.crt",
        "/etc/authz/admin-tls/tls.key",
    }
    assert {"name": "authz-admin-tls", "mountPath": "/etc/authz/admin-tls", "readOnly": True} in container[
        "volumeMounts"
    ]
    assert "authz-admin-tls" in names(pod["volumes"])


def test_metrics_are_read_over_tls_that_prometheus_verifies() -> None:
    for monitor in yaml.safe_load_all(
        generate.render(KUBERNETES / "chart/examples/standalone-admin-tls.yaml")["pod-monitor.yaml"]
    ):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["scheme"] == "https"
        assert endpoint["tlsConfig"] == {
            "serverName": "authz-admin",
            "ca": {"secret": {"name": "authz-admin-tls", "key": "ca.crt"}},
        }


def test_kustomize_and_helm_carry_the_same_files_of_a_policy(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    listed = subprocess.run(["sha256sum", *FILES], cwd=tmp_path, check=True, capture_output=True).stdout
    digest = hashlib.sha256(listed).hexdigest()
    annotations = f'options: {{annotations: {{authz/policy-sha256: "{digest}"}}}}'
    files = json.dumps(list(FILES))
    more = f"configMapGenerator:\n- {{name: authz-policy, behavior: merge, files: {files}, {annotations}}}\n"
    overlay = built(tmp_path, ["sidecar"], more=more)
    values = {"policy": {"text": FILES["policy.yaml"], "files": {"orders.yaml": FILES["orders.yaml"]}}}
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    rendered = generate.render(tmp_path / "values.yaml")
    config = yaml.safe_load(rendered["policy.yaml"])
    assert overlay["ConfigMap/authz-policy"]["data"] == config["data"] == FILES
    deployment = next(yaml.safe_load_all(rendered["standalone.yaml"]))
    metadata = [config["metadata"], overlay["ConfigMap/authz-policy"]["metadata"]]
    metadata += [deployment["spec"]["template"]["metadata"]]
    assert [each["annotations"]["authz/policy-sha256"] for each in metadata] == [digest] * 3


def test_another_text_of_an_included_file_replaces_the_pods(tmp_path: Path) -> None:
    seen = set()
    for text in ("routes: []\n", "routes: [ ]\n"):
        values = {"policy": {"text": FILES["policy.yaml"], "files": {"orders.yaml": text}}, "portal": {"enabled": True}}
        (tmp_path / "values.yaml").write_text(json.dumps(values))
        rendered = generate.render(tmp_path / "values.yaml")
        deployments = [next(yaml.safe_load_all(rendered[name])) for name in ("standalone.yaml", "portal.yaml")]
        hashes = {each["spec"]["template"]["metadata"]["annotations"]["authz/policy-sha256"] for each in deployments}
        assert len(hashes) == 1
        seen |= hashes
    assert len(seen) == 2
