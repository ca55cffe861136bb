"""A real API server accepts what the chart makes of values that a site may choose, and of any name of a release."""

import json
from pathlib import Path

import generate
import pytest
from apiserver.cluster import Cluster
from apiserver.test_apiserver import apply, without_crds
from manifests.test_values import ACCEPTED, POD, RELEASES, Values

_RESTRICTED: Values = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {**each, "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
        for each in POD["containers"]
    ],
}
_TLS = {"adminTls": {"secretName": "authz-admin-tls"}, "standalone": {"tls": {"secretName": "1e3"}}}
_POLICY = {"policy": {"text": " - '{{ x }}': \"\\\n", "files": {"orders.yaml": "\n\n  a: 1"}}}
CASES: dict[str, Values] = {**ACCEPTED, "tls": _TLS, "policy": _POLICY}


@pytest.mark.parametrize("name", CASES)
def test_the_server_accepts_the_values_without_a_warning(cluster: Cluster, name: str, tmp_path: Path) -> None:
    values = json.loads(json.dumps(CASES[name]))
    if "pod" in values.get("sidecar", {}).get("app", {}):
        values["sidecar"]["app"]["pod"] |= _RESTRICTED
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    text = without_crds("\n---\n".join(generate.render(tmp_path / "values.yaml").values()))
    done = apply(cluster, cluster.namespace(f"values-{name.replace(' ', '-')}"), text)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("release", RELEASES)
def test_the_server_accepts_the_name_of_a_release(cluster: Cluster, release: str) -> None:
    text = "\n---\n".join(generate.render(release=release).values())
    done = apply(cluster, cluster.namespace(f"release-{release[:20]}"), text)
    assert (done.returncode, done.stderr) == (0, "")
