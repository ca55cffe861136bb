"""Writes what follows from other files: the chart's files, and the kustomize base and components from the chart.

The chart is the only source, so both say the same. Overlays and examples are written by hand.
"""

import argparse
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = Path("deploy/kubernetes")
CHART = KUBERNETES / "chart"
TOOLS = ROOT / ".venv/tools/manifests/bin"
NOTE = "# Generated from the chart by `make manifests-write`: do not edit.\n"
_ROLLED = {
    "standalone.yaml": "{kind: Deployment, name: authz}",
    "portal.yaml": "{kind: Deployment, name: authz-portal}",
}
_PROTECTED = "{kind: Deployment|StatefulSet|DaemonSet, annotationSelector: authz/sidecar=true}"
_REPLACEMENT = """# A changed policy replaces the pods, in a rolling update.
replacements:
- source: {{kind: ConfigMap, name: authz-policy, fieldPath: metadata.annotations.authz/policy-sha256}}
  targets:
  - select: {select}
    fieldPaths: [spec.template.metadata.annotations.authz/policy-sha256]
    options: {{create: true}}
"""
_POLICY_NOTE = (
    "# Put your policy in place of policy.yaml, and its SHA-256 into the annotation (`sha256sum policy.yaml`).\n"
    "# Files that it includes are further `files`; the SHA-256 is then that of all: `sha256sum FILES | sha256sum`.\n"
)
_ADMIN_TLS_NOTE = (
    "# TLS on the admin listeners of the components that are listed before this one. Secret authz-admin-tls: tls.crt,\n"
    "# tls.key and, for the PodMonitors, ca.crt; the certificate has the DNS name authz-admin.\n"
)


def main() -> None:
    """Write everything below a folder, the repository unless given."""
    parser = argparse.ArgumentParser(description="Write the kustomize files from the chart.")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT)
    folder: Path = parser.parse_args().folder
    for name, text in chart_files().items():
        write(folder / name, text)
    for name, text in kustomize_files().items():
        write(folder / name, text)


def write(path: Path, text: str) -> None:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def chart_files() -> dict[Path, str]:
    """Return the files inside the chart by path: the example policy, and Envoy's configuration for a sidecar."""
    policy = (ROOT / "policies/truetick.yaml").read_text()
    return {
        CHART / "files/policy.yaml": policy,
        CHART / "README.md": "\n".join(values_page()) + "\n",
        CHART / "files/envoy-sidecar.yaml": sidecar_envoy((ROOT / "envoy.yaml").read_text()),
    }


def values_page() -> Iterator[str]:
    """Return the lines of the page of every value with its default, from the schema."""
    schema = json.loads((ROOT / CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((ROOT / CHART / "values.yaml").read_text())
    yield "# The authz chart\n"
    yield "Generated from values.schema.json by `make manifests-write`: do not edit. How to use it is in"
    yield "[docs/kubernetes.md](../../../docs/kubernetes.md); complete values are in `examples/`.\n"
    yield "| value | default | meaning |\n|---|---|---|"
    yield from _value_rows(schema["properties"], defaults, "")


def _value_rows(properties: dict[str, Any], defaults: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, value in properties.items():
        if name not in defaults:
            continue
        if "properties" in value:
            yield from _value_rows(value["properties"], defaults[name], f"{prefix}{name}.")
        else:
            yield f"| `{prefix}{name}` | `{json.dumps(defaults[name])}` | {value['description']} |"


def sidecar_envoy(text: str) -> str:
    """Return the shipped configuration with authz on its socket and the portal at its Service."""
    text = text[text.index("node:") :]
    pipe = "address: {pipe: {path: /run/authz/check.sock}}"
    text, count = re.subn(r"address: \{socket_address: \{address: 127\.0\.0\.1, port_value: 9001\}\}", pipe, text)
    portal = r"(- name: portal\n    type: )STATIC(.*?address: )127\.0\.0\.1(, port_value: 8080)"
    text, portals = re.subn(portal, r"\1STRICT_DNS\2authz-portal\3", text, count=1, flags=re.DOTALL)
    if (count, portals) != (2, 1):
        raise SystemExit(f"envoy.yaml has {count} addresses of authz and {portals} of the portal: expected 2 and 1")
    return "# Generated from envoy.yaml, which has the reasons, by `make manifests-write`: do not edit.\n" + text


def render(*values: Path, release: str = "authz") -> dict[str, str]:
    """Return the text of each template of the chart, by file name."""
    command: list[str | Path] = [TOOLS / "python", ROOT / KUBERNETES / "render.py", release, "authz", *values]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    rendered: dict[str, str] = json.loads(done.stdout)
    return rendered


def kustomize_files() -> dict[Path, str]:
    """Return the base and the components by path."""
    examples = ROOT / CHART / "examples"
    full = render(examples / "standalone-portal.yaml")
    sidecar = _documents(render(examples / "sidecar.yaml")["sidecar.yaml"])
    stores = render(examples / "try-out.yaml")["try-out-stores.yaml"]
    tls = render(examples / "standalone-admin-tls.yaml")
    policy = (ROOT / "policies/truetick.yaml").read_text()
    base, parts = KUBERNETES / "base", KUBERNETES / "components"
    return {
        base / "kustomization.yaml": _base(policy),
        base / "policy.yaml": policy,
        base / "service-account.yaml": NOTE + _plain(full["service-account.yaml"]),
        **_component(parts / "standalone", "standalone.yaml", full["standalone.yaml"]),
        **_component(parts / "portal", "portal.yaml", full["portal.yaml"]),
        **_component(parts / "migrate", "migrate.yaml", full["migrate.yaml"]),
        **_component(parts / "pod-monitor", "pod-monitor.yaml", full["pod-monitor.yaml"]),
        **_component(parts / "try-out-stores", "try-out-stores.yaml", stores),
        **_component(parts / "sidecar", "sidecar.yaml", "---\n".join(sidecar[:2]), patch="patch.yaml"),
        parts / "sidecar/patch.yaml": NOTE + _patch(sidecar[2]),
        **_admin_tls(parts / "admin-tls", tls),
    }


def _documents(text: str) -> Sequence[str]:
    return re.split(r"^---\n", text.strip() + "\n", flags=re.MULTILINE)


def _plain(text: str) -> str:
    """Return the text without what only Helm reads."""
    lines = [line for line in text.strip().splitlines() if "helm.sh/" not in line]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _base(policy: str) -> str:
    digest = hashlib.sha256(policy.encode()).hexdigest()
    return (
        NOTE
        + _POLICY_NOTE
        + "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [service-account.yaml]\n"
        + "configMapGenerator:\n- name: authz-policy\n  files: [policy.yaml]\n  options:\n"
        + "    # One name for all versions: a rollback of pods still finds its policy.\n"
        + "    disableNameSuffixHash: true\n"
        + f"    annotations: {{authz/policy-sha256: {digest}}}\n"
        + "    labels:\n      app.kubernetes.io/name: authz\n      app.kubernetes.io/instance: authz\n"
        + "      app.kubernetes.io/component: all\n"
    )


def _component(folder: Path, name: str, text: str, patch: str = "") -> dict[Path, str]:
    head = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
    patches = (
        f"# Into everything with pods that has this annotation.\npatches:\n- path: {patch}\n  target: {_PROTECTED}\n"
    )
    kustomization = f"{NOTE}{head}resources: [{name}]\n" + (patches if patch else "")
    select = "{annotationSelector: authz/sidecar=true}" if patch else _ROLLED.get(name, "")
    if select:
        kustomization += _REPLACEMENT.format(select=select)
    return {folder / "kustomization.yaml": kustomization, folder / name: NOTE + _plain(text)}


def _patch(deployment: str) -> str:
    pod = _plain(deployment[deployment.index("      # The application's preStop") :])
    return (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: any}\nspec:\n  template:\n"
        '    metadata:\n      labels: {authz/protected: "true"}\n    spec:\n      enableServiceLinks: false\n'
        "      # SECURITY: NetworkPolicies do not hold for the node's network: the application's port would be open.\n"
        "      hostNetwork: false\n"
        "      # SECURITY: an application with the user of authz could read its files, and so the URLs of the stores.\n"
        "      hostPID: false\n      shareProcessNamespace: false\n"
    ) + pod


def _admin_tls(folder: Path, rendered: dict[str, str]) -> dict[Path, str]:
    """Return the component that gives TLS to the admin listeners of what is there."""
    head = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches:\n"
    authz, portal = (yaml.safe_load(_documents(rendered[name])[0]) for name in ("standalone.yaml", "portal.yaml"))
    monitors = [yaml.safe_load(text) for text in _documents(rendered["pod-monitor.yaml"]) if text.strip()]
    targets = {
        "authz.yaml": ("{kind: Deployment, name: authz}", _with_tls(authz, "containers")),
        "sidecar.yaml": (
            _PROTECTED,
            _with_tls(authz, "initContainers"),
        ),
        "portal.yaml": ("{kind: Deployment, name: authz-portal}", _with_tls(portal, "containers")),
        **{
            f"{monitor['metadata']['name']}-monitor.yaml": (
                f"{{kind: PodMonitor, name: {monitor['metadata']['name']}}}",
                {name: monitor[name] for name in ("apiVersion", "kind")}
                | {"metadata": {"name": monitor["metadata"]["name"]}}
                | {"spec": {"podMetricsEndpoints": monitor["spec"]["podMetricsEndpoints"]}},
            )
            for monitor in monitors
        },
    }
    listed = "".join(f"- path: {name}\n  target: {target}\n" for name, (target, _) in targets.items())
    return {folder / "kustomization.yaml": NOTE + _ADMIN_TLS_NOTE + head + listed} | {
        folder / name: NOTE + yaml.safe_dump(patch, sort_keys=False) for name, (_, patch) in targets.items()
    }


def _with_tls(deployment: dict[str, Any], containers: str) -> dict[str, Any]:
    """Return the patch of a Deployment for TLS of its admin listener: the files, and HTTPS for the probes."""
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    patch = {
        "name": container["name"],
        **{
            probe: {"httpGet": {"scheme": container[probe]["httpGet"]["scheme"]}}
            for probe in container
            if "Probe" in probe
        },
        "env": [each for each in container["env"] if re.search("ADMIN_(CERTIFICATE|KEY)_FILE", each["name"])],
        "volumeMounts": [each for each in container["volumeMounts"] if each["name"] == "authz-admin-tls"],
    }
    volumes = [each for each in pod["volumes"] if each["name"] == "authz-admin-tls"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "any"},
        "spec": {"template": {"spec": {containers: [patch], "volumes": volumes}}},
    }


if __name__ == "__main__":
    main()
