"""The stores, the images and the manifest that the tests of pods share."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pods.pod_runner import ROOT, Pod, configure, pod_template, podman

from authz.core.limits import Limit
from authz.demo.stack import Stack

# A machine that does other work as well stops a process for longer than a check may take. `DEADLINES=long` makes the
# deadlines ten times as long, which shows whether a request is lost for another reason than that.
LONG = os.environ.get("DEADLINES") == "long"
NewPod = Callable[..., Pod]


@dataclass
class Manifest:
    """What the runner makes pods from: the pod, the contents of its volumes, and the images by the manifest's name."""

    pod: dict[str, Any]
    contents: dict[str, dict[str, str]]
    images: dict[str, str]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    made = Stack()
    made.start()
    # The image's user connects to the sockets of the stores.
    made.folder.chmod(0o755)
    (made.folder / "postgres").chmod(0o711)
    # Elsewhere, stores have machines of their own: they do not wait for the other processes of this one.
    configure(made.redis.pid, made.postgres.pid)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def key(stack: Stack) -> str:
    return stack.create_key("load", "servers:read", limit=Limit(1_000_000, 100_000)).secret


@pytest.fixture(scope="session")
def folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="authz-pods-"))
    made.chmod(0o755)
    configure()
    _envoy_image(made)
    return made


@pytest.fixture(scope="session")
def manifest(stack: Stack, folder: Path) -> Manifest:
    del folder  # configures podman
    return sidecar_manifest(stack, ROOT / "deploy/kubernetes/overlays/sidecar")


def sidecar_manifest(stack: Stack, overlay: Path) -> Manifest:
    """Build an overlay of the sidecar for the runner."""
    kubectl = ROOT / ".venv/tools/manifests/bin/kubectl"
    command: list[str | Path] = [kubectl, "kustomize", overlay]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    maps = {m["metadata"]["name"]: m["data"] for m in yaml.safe_load_all(text) if m["kind"] == "ConfigMap"}
    # The portal's Service is a name that only a cluster knows.
    envoy = maps["authz-envoy"]["envoy.yaml"].replace("address: authz-portal", "address: localhost")
    if LONG:
        for shipped, longer in (("timeout: 0.2s", "timeout: 2s"), ("max_interval: 0.15s", "max_interval: 1.5s")):
            assert shipped in envoy
            envoy = envoy.replace(shipped, longer)
    maps["authz-envoy"]["envoy.yaml"] = envoy
    template = pod_template(text, "notes")
    version = next(c["image"].split(":")[1] for c in template["initContainers"] if c["name"] == "authz")
    _adapt(template, stack)
    return Manifest(
        template,
        {**maps, "authz-stores": {"redis-url": stack.redis.url, "postgres-url": stack.postgres.url}},
        {
            f"authz:{version}": f"localhost/authz:{version}",
            "notes:1": f"localhost/authz:{version}",
            "envoyproxy/envoy:distroless-v1.40.0": "localhost/envoy-for-tests",
        },
    )


@pytest.fixture
def new_pod(manifest: Manifest, stack: Stack, folder: Path) -> Iterator[NewPod]:
    pods: list[Pod] = []

    def make(of: Manifest = manifest, **urls: str) -> Pod:
        contents = deepcopy(of.contents)
        contents["authz-stores"] |= {name.replace("_", "-"): url for name, url in urls.items()}
        name = Path(tempfile.mkdtemp(prefix="authz-pod-", dir=folder)).name
        (folder / name).chmod(0o755)
        pod = Pod(of.pod, name, folder, contents, of.images)
        (folder / pod.name / "postgres").symlink_to(stack.folder / "postgres")
        pods.append(pod)
        pod.start()
        return pod

    yield make
    for pod in pods:
        pod.remove()


def _adapt(template: dict[str, Any], stack: Stack) -> None:
    """Add what this machine needs: PostgreSQL's socket, and memory for the Python that stands for the application."""
    deadlines = {"AUTHZ_REDIS_DEADLINE_S": "0.5", "AUTHZ_LOAD_WAIT_S": "1.4"} if LONG else {}
    sidecar = next(container for container in template["initContainers"] if container["name"] == "authz")
    sidecar["env"] += [{"name": name, "value": value} for name, value in deadlines.items()]
    for container in [*template["initContainers"], *template["containers"]]:
        if container["name"] == "notes":
            container["resources"]["limits"]["memory"] = "128Mi"
        mounts = container.setdefault("volumeMounts", [])
        mounts.append({"name": "postgres", "mountPath": str(stack.folder / "postgres")})


def _envoy_image(folder: Path) -> None:
    """Build an image of the packaged Envoy on the assembled base: no registry is needed."""
    spec = find_spec("envoy")
    assert spec is not None
    assert spec.origin is not None
    context = folder / "envoy-image"
    context.mkdir()
    binary = Path(spec.origin).parent / "_bin" / "envoy"
    (context / "envoy").write_bytes(binary.read_bytes())
    (context / "envoy").chmod(0o755)
    (context / "Containerfile").write_text("FROM localhost/authz-base:bookworm\nCOPY envoy /usr/bin/envoy\n")
    podman("build", "--isolation=chroot", "--network=host", "--quiet", "--tag=localhost/envoy-for-tests", context)
