"""A pod of the sidecar whose mounted files change under load: a policy of several files, and the admin certificate.

The volumes are laid out and replaced as a kubelet does. The admin listener has TLS, and the runner's probes use HTTPS.
"""

import asyncio
import json
import os
import ssl
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pods.conftest import Manifest, NewPod, sidecar_manifest
from pods.load import Load
from pods.pod_runner import ROOT, Pod, wait_until
from pods.test_walk import status
from support.certificates import Authority

from authz.demo.stack import Stack

_POLICY = (
    (ROOT / "policies/truetick.yaml").read_text().replace("version: 1\n", "version: 2\ninclude: [orders.yaml]\n", 1)
)
_ORDERS = "routes:\n- {scope: servers:read, match: GET /v1/orders}\n"
_FAULTY = "routes: [\n"


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """An overlay of the sidecar with a policy of two files and TLS on the admin listener."""
    kubernetes = os.path.relpath(ROOT / "deploy/kubernetes", tmp_path.resolve())
    (tmp_path / "policy.yaml").write_text(_POLICY)
    (tmp_path / "orders.yaml").write_text(_ORDERS)
    (tmp_path / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources: [{kubernetes}/overlays/sidecar]\ncomponents: [{kubernetes}/components/admin-tls]\n"
        "configMapGenerator:\n- {name: authz-policy, behavior: merge, files: [policy.yaml, orders.yaml]}\n"
    )
    return tmp_path


def certified(authority: Authority) -> dict[str, str]:
    certificate, key = authority.issue("DNS:authz-admin")
    return {"tls.crt": certificate.read_text(), "tls.key": key.read_text(), "ca.crt": authority.certificate.read_text()}


def served_certificate(pod: Pod) -> str:
    return ssl.get_server_certificate(("127.0.0.1", pod.ports["9090"])).strip()


def policy_state(pod: Pod, authority: Authority) -> dict[str, Any]:
    """Return what /readyz says of the policy, over TLS that is verified as Prometheus does."""
    context = ssl.create_default_context(cafile=authority.certificate)
    context.check_hostname = False  # the address is a pod's
    with urllib.request.urlopen(f"{pod.admin_url}/readyz", timeout=5, context=context) as answer:  # noqa: S310 -- ours
        state: dict[str, Any] = json.loads(answer.read())["policy"]
    return state


@pytest.mark.timeout(180)
async def test_files_are_replaced_under_load_and_no_request_fails(
    new_pod: NewPod, stack: Stack, folder: Path, key: str, overlay: Path, tmp_path: Path
) -> None:
    del folder  # configures podman
    manifest: Manifest = sidecar_manifest(stack, overlay)
    assert set(manifest.contents["authz-policy"]) == {"policy.yaml", "orders.yaml"}
    authority = Authority(tmp_path, "admin")
    manifest.contents["authz-admin-tls"] = first = certified(authority)
    pod = await asyncio.to_thread(new_pod, manifest)
    load = Load(key, 100, [pod.port])
    running = asyncio.create_task(load.run())
    try:
        await replace_files(pod, key, authority, first)
    finally:
        load.end()
        await running
    print(f"\n{dict(load.statuses)} while files were replaced")
    assert set(load.statuses) == {"200"}
    await asyncio.to_thread(pod.remove)


async def replace_files(pod: Pod, key: str, authority: Authority, first: dict[str, str]) -> None:
    """Widen an included file, break it, mend it, and rotate the certificate; each must show."""

    async def becomes(condition: Callable[[], bool]) -> None:
        await asyncio.to_thread(wait_until, condition)

    assert await asyncio.to_thread(served_certificate, pod) == first["tls.crt"].strip()
    before = await asyncio.to_thread(policy_state, pod, authority)
    refused = await asyncio.to_thread(status, pod.port, key, "/v1/invoices")
    admitted = await asyncio.to_thread(status, pod.port, key, "/v1/orders")
    assert refused != admitted

    widened = {"policy.yaml": _POLICY, "orders.yaml": _ORDERS + "- {scope: servers:read, match: GET /v1/invoices}\n"}
    pod.publish("authz-policy", widened)
    await becomes(lambda: status(pod.port, key, "/v1/invoices") == admitted)
    after = await asyncio.to_thread(policy_state, pod, authority)
    assert (after["routes"] - before["routes"], after["last_reload"]) == (1, "reloaded")

    pod.publish("authz-policy", {"policy.yaml": _POLICY, "orders.yaml": _FAULTY})
    await becomes(lambda: policy_state(pod, authority)["last_reload"] == "failed")
    assert policy_state(pod, authority)["digest"] == after["digest"]
    pod.publish("authz-policy", widened)

    second = certified(authority)
    pod.publish("authz-admin-tls", second)
    await becomes(lambda: served_certificate(pod) == second["tls.crt"].strip())
