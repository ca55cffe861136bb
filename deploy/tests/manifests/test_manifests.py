"""The manifests: kustomize and Helm say the same, and every tool that judges them is content.

`make manifests` runs this with the tools of `deploy/tools/manifests.txt`; `make apiserver` asks a real API server.
"""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import generate
import pytest
import yaml

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "deploy/kubernetes"
TOOLS = ROOT / ".venv/tools/manifests/bin"
EXAMPLES = sorted(path.stem for path in (KUBERNETES / "chart/examples").glob("*.yaml"))
# The versions of the last two years. 1.30 is the oldest with all fields.
VERSIONS = [f"1.{minor}.0" for minor in range(31, 38)]

Manifest = dict[str, Any]


@cache
def of_kustomize(overlay: str) -> str:
    command: list[str | Path] = [TOOLS / "kubectl", "kustomize", KUBERNETES / "overlays" / overlay]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@cache
def of_helm(example: str) -> str:
    return "\n---\n".join(generate.render(KUBERNETES / f"chart/examples/{example}.yaml").values())


def manifests(text: str) -> dict[str, Manifest]:
    found = [manifest for manifest in yaml.safe_load_all(text) if manifest]
    named = {f"{manifest['kind']}/{manifest['metadata']['name']}": meaning(manifest) for manifest in found}
    assert len(named) == len(found)
    return named


def meaning(manifest: Manifest) -> Manifest:
    """Return a manifest without what has no meaning to the API server: Helm's annotations, some orders."""
    metadata = manifest["metadata"]
    kept = {name: value for name, value in metadata.get("annotations", {}).items() if not name.startswith("helm.sh/")}
    metadata["annotations"] = kept
    pod = manifest.get("spec", {}).get("template", {}).get("spec", {})
    pod.get("volumes", []).sort(key=lambda volume: volume["name"])
    for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
        # No variable refers to another one.
        container.get("env", []).sort(key=lambda variable: variable["name"])
        container.get("volumeMounts", []).sort(key=lambda mount: mount["mountPath"])
    return manifest


def pods(text: str) -> Iterator[tuple[str, Manifest]]:
    for name, manifest in manifests(text).items():
        if "template" in manifest.get("spec", {}):
            yield name, manifest["spec"]["template"]["spec"]


def test_every_overlay_has_an_example_of_values_and_the_reverse() -> None:
    assert sorted(path.name for path in (KUBERNETES / "overlays").iterdir()) == EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES)
def test_kustomize_and_helm_mean_the_same(example: str) -> None:
    assert manifests(of_kustomize(example)) == manifests(of_helm(example))


def test_what_is_generated_is_what_the_chart_says() -> None:
    files = {**generate.chart_files(), **generate.kustomize_files()}
    stale = [str(path) for path, text in files.items() if (ROOT / path).read_text() != text]
    assert stale == [], "run `make manifests-write`"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_is_one_of_kubernetes(version: str, tmp_path: Path) -> None:
    for example in EXAMPLES:
        text = re.split(r"^---$", of_kustomize(example), flags=re.MULTILINE)
        # The schemas are those of Kubernetes itself, without the Prometheus operator's.
        known = [document for document in text if "monitoring.coreos.com" not in document]
        (tmp_path / f"{example}.yaml").write_text("---".join(known))
    command: list[str | Path] = [
        TOOLS / "kubernetes-validate",
        "--strict",
        "--quiet",
        "-k",
        version,
        *sorted(tmp_path.glob("*.yaml")),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_an_unknown_field_is_found(tmp_path: Path) -> None:
    wrong = of_kustomize("standalone").replace("minReadySeconds", "minReadySecond")
    (tmp_path / "wrong.yaml").write_text(wrong)
    command: list[str | Path] = [
        TOOLS / "kubernetes-validate",
        "--strict",
        "--quiet",
        "-k",
        VERSIONS[-1],
        tmp_path / "wrong.yaml",
    ]
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


def test_checkov_finds_nothing_without_a_written_reason(tmp_path: Path) -> None:
    for example in EXAMPLES:
        (tmp_path / f"{example}.yaml").write_text(of_kustomize(example))
    (tmp_path / "Dockerfile").write_text((ROOT / "deploy/Containerfile").read_text())
    command: list[str | Path] = [
        TOOLS / "checkov",
        "--config-file",
        KUBERNETES / "checkov.yaml",
        "--output",
        "json",
        "--directory",
        tmp_path,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    reports = json.loads(done.stdout)
    assert {report["check_type"] for report in reports} == {"kubernetes", "dockerfile"}
    failed = [(f["check_id"], f["resource"]) for report in reports for f in report["results"]["failed_checks"]]
    assert failed == []
    assert sum(report["summary"]["passed"] for report in reports) > 500


def test_hadolint_is_content_with_the_containerfiles() -> None:
    files = [ROOT / "deploy/Containerfile", ROOT / "deploy/image/Containerfile.base"]
    done = subprocess.run([TOOLS / "hadolint", *files], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_pod_has_time_for_its_drain(example: str) -> None:
    for _, pod in pods(of_helm(example)):
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            settings = {each["name"]: each.get("value") for each in container.get("env", [])}
            sleep_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            drain_s = float(settings.get("AUTHZ_DRAIN_DELAY_S", 0)) + float(settings.get("AUTHZ_DRAIN_GRACE_S", 0))
            assert pod.get("terminationGracePeriodSeconds", 30) >= sleep_s + drain_s


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_pod_of_ours_has_a_token_or_variables_of_services(example: str) -> None:
    for _, pod in pods(of_helm(example)):
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)


def test_the_annotation_is_the_hash_of_the_policy() -> None:
    (_, text), *_ = [(n, m) for n, m in manifests(of_helm("standalone")).items() if n == "ConfigMap/authz-policy"]
    shipped = (ROOT / "policies/truetick.yaml").read_bytes()
    assert text["metadata"]["annotations"]["authz/policy-sha256"] == hashlib.sha256(shipped).hexdigest()


def test_settings_of_the_manifests_exist() -> None:
    from authz.settings_report import described  # noqa: PLC0415 -- only here

    known = {variable for variable, _, _ in described()}
    used = {name for example in EXAMPLES for name in re.findall(r"AUTHZ_[A-Z_]+[A-Z]", of_helm(example))}
    assert used - known == set()


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "both"},
        {"imge": {}},
        {"env": {"AUTHZ_REDIS_URL": "redis://secret@redis"}},
        {"env": {"AUTHZ_PORTAL_PROXY_SECRET": "secret"}},
        {"drain": {"graceSeconds": 0}},
        {"portal": {"publicUrl": "api.example"}},
    ],
)
def test_values_that_mean_nothing_are_refused(values: Manifest, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    with pytest.raises(SystemExit, match="HelmValuesError"):
        generate.render(tmp_path / "values.yaml")


def test_a_policy_of_ones_own_and_a_changed_port_arrive(tmp_path: Path) -> None:
    policy = "version: 1\n# mine\n"
    values = {
        "mode": "sidecar",
        "policy": {"text": policy, "rollOnChange": True},
        "sidecar": {"port": 8443, "app": {"port": 3000}},
    }
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    rendered = generate.render(tmp_path / "values.yaml")
    (config,) = yaml.safe_load_all(rendered["policy.yaml"])
    assert config["data"]["policy.yaml"].strip() == policy.strip()
    envoy = yaml.safe_load(next(yaml.safe_load_all(rendered["sidecar.yaml"]))["data"]["envoy.yaml"])
    (listener,) = envoy["static_resources"]["listeners"]
    assert listener["address"]["socket_address"]["port_value"] == 8443
    ports = {c["name"]: json.dumps(c["load_assignment"]) for c in envoy["static_resources"]["clusters"]}
    assert "3000" in ports["backend"]
    assert "/run/authz/check.sock" in ports["authz"]
    assert "/run/authz/check.sock" in ports["authz-streams"]
