"""Runs the pods of the sidecar manifest with podman and runc: the part of a kubelet that the tests need.

Each container gets its image, arguments, variables, mounts, user, read-only root, capabilities and memory limit from
the manifest. All pods share this machine's network, so each has its own ports. The order of start and stop is that of
native sidecars. Probes are the tests' own requests.
"""

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from urllib.error import URLError

import yaml

from authz.demo.servers import accepts, free_port

ROOT = Path(__file__).parents[3]
# All pods together, against other processes of this machine. A kubelet's pods compete with a few services of the node;
# without this, all containers would get as much CPU as one busy process that has nothing to do with the test.
_PARENT, _CPU_SHARES = "/authz-pods", 16_384
_PORTS = ("8000", "8081", "9090", "9901")


def podman(*arguments: str | Path) -> str:
    command = ["podman", *map(str, arguments)]
    # conmon writes a file where a container runs out of memory into its folder.
    folder = gettempdir()
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, cwd=folder)
    assert ended.returncode == 0, f"podman {arguments[0]}: {ended.stderr[-1_000:]}"
    return ended.stdout.strip()


def answers(url: str, status: int = 200) -> bool:
    """Return whether a probe succeeds; like a kubelet's, it has no certificate and does not verify the server's."""
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 -- as a kubelet does
    with suppress(URLError, OSError), urllib.request.urlopen(url, timeout=1, context=context) as answer:  # noqa: S310 -- ours
        return int(answer.status) == status
    return False


def wait_until(condition: Callable[[], bool], limit_s: float = 30) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.02)


@dataclass
class Pod:
    """One pod of the manifest; `folders` holds the contents of its volumes by name."""

    manifest: dict[str, Any]
    name: str
    folder: Path
    contents: dict[str, dict[str, str]]
    images: dict[str, str]
    ports: dict[str, int] = field(default_factory=lambda: {port: free_port() for port in _PORTS})
    containers: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.ports["8000"]

    @property
    def admin_url(self) -> str:
        sidecar = next(each for each in self.manifest["initContainers"] if each["name"] == "authz")
        scheme = sidecar["readinessProbe"]["httpGet"].get("scheme", "HTTP").lower()
        return f"{scheme}://127.0.0.1:{self.ports['9090']}"

    def start(self) -> None:
        """Start the sidecars one after the other, then the application, as the kubelet does."""
        sidecars = [each for each in self.manifest["initContainers"] if each.get("restartPolicy") == "Always"]
        self._fill_volumes()
        started = [lambda: answers(f"{self.admin_url}/healthz"), lambda: accepts(self.port)]
        for container, has_started in zip(sidecars, started, strict=True):
            self._run(container)
            wait_until(has_started)
        for container in self.manifest["containers"]:
            self._run(container)
        wait_until(lambda: answers(f"{self.admin_url}/readyz") and answers(f"http://127.0.0.1:{self.ports['8081']}/"))

    def stop(self) -> None:
        """Stop in the kubelet's order: the application after its preStop, then the sidecars, the last one first."""
        for container in self.manifest["containers"]:
            time.sleep(container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))
        sidecars = [each["name"] for each in self.manifest["initContainers"] if each.get("restartPolicy") == "Always"]
        grace_s = self.manifest["terminationGracePeriodSeconds"]
        for name in [*(each["name"] for each in self.manifest["containers"]), *reversed(sidecars)]:
            podman("stop", f"--time={grace_s}", self.containers[name])
        self.remove()

    def restart(self, name: str) -> None:
        """Start a container again that has ended."""
        podman("start", self.containers[name])

    def inspect(self, name: str) -> dict[str, Any]:
        inspected: dict[str, Any] = json.loads(podman("inspect", self.containers[name]))[0]
        return inspected

    def remove(self) -> None:
        for container in self.containers.values():
            podman("rm", "--force", "--time=1", container)
        self.containers.clear()

    def _fill_volumes(self) -> None:
        for volume in self.manifest["volumes"]:
            folder = self.folder / self.name / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
            if volume["name"] in self.contents:
                self.publish(volume["name"], self.contents[volume["name"]])

    def publish(self, volume: str, contents: dict[str, str]) -> None:
        """Write a ConfigMap's or Secret's volume as a kubelet does: a new folder, then one rename of `..data`."""
        folder = self.folder / self.name / volume
        inner = folder / f"..{time.time_ns()}"
        inner.mkdir()
        for name, text in contents.items():
            (inner / name).write_text(self._with_ports(text))
            (inner / name).chmod(0o644)
        data, new = folder / "..data", folder / "..data_tmp"
        old = data.resolve() if data.is_symlink() else None
        new.symlink_to(inner.name)
        new.rename(data)
        for gone in (each for each in folder.iterdir() if not each.name.startswith("..") and each.name not in contents):
            gone.unlink()
        for name in (each for each in contents if not (folder / each).is_symlink()):
            (folder / name).symlink_to(f"..data/{name}")
        if old is not None:
            shutil.rmtree(old)

    def _with_ports(self, text: str) -> str:
        for port, own in self.ports.items():
            text = text.replace(f"port_value: {port}}}", f"port_value: {own}}}").replace(f":{port}", f":{own}")
        return text

    def _run(self, container: dict[str, Any]) -> None:
        security = container["securityContext"]
        user = security.get("runAsUser", self.manifest.get("securityContext", {}).get("runAsUser"))
        options = [
            "--detach",
            "--network=host",
            f"--cgroup-parent={_PARENT}",
            f"--user={user}:{user}",
            f"--name={self.name}-{container['name']}",
        ]
        options += [f"--memory={container['resources']['limits']['memory'].replace('Mi', 'm')}"]
        options += [f"--cap-drop={each}" for each in security["capabilities"]["drop"]]
        options += ["--read-only", "--read-only-tmpfs=false"] if security["readOnlyRootFilesystem"] else []
        options += [] if security["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]
        for variable in container.get("env", []):
            if "value" in variable:
                options.append(f"--env={variable['name']}={self._with_ports(variable['value'])}")
        for mount in container.get("volumeMounts", []):
            mode = ":ro" if mount.get("readOnly") else ""
            options.append(f"--volume={self.folder / self.name / mount['name']}:{mount['mountPath']}{mode}")
        arguments = [self._with_ports(each) for each in container.get("args", [])]
        image = self.images.get(container["image"], container["image"])
        if container["name"] == "notes":
            arguments = ["-m", "authz.demo.backend", "--port", str(self.ports["8081"])]
            options.append("--entrypoint=/opt/authz/bin/python")
        self.containers[container["name"]] = podman("run", *options, image, *arguments)


def pod_template(text: str, name: str) -> dict[str, Any]:
    """Return the pod of a Deployment in a manifest."""
    (found,) = (
        m for m in yaml.safe_load_all(text) if m and m["kind"] == "Deployment" and m["metadata"]["name"] == name
    )
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod


def configure(*pids: int) -> None:
    """Set podman's configuration, and the share of CPU that the pods and these processes have together."""
    for root, name, shares in (("cpu", "cpu.shares", _CPU_SHARES), (".", "cpu.weight", _CPU_SHARES // 10)):
        group = Path("/sys/fs/cgroup") / root / _PARENT[1:]
        if (group.parent / "cgroup.procs").exists():
            group.mkdir(exist_ok=True)
            if (group / name).exists():
                (group / name).write_text(str(shares))
                for pid in pids:
                    (group / "stores").mkdir(exist_ok=True)
                    (group / "stores" / "cgroup.procs").write_text(str(pid))
    os.environ["CONTAINERS_CONF"] = str(ROOT / "deploy/image/containers.conf")
