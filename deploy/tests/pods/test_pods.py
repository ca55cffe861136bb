"""The shipped sidecar manifest as real containers: rolling updates under load, limits, and what clients see of a crash.

`make pods` runs this; it needs podman, runc, and the image from `make image`.
"""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from pods.load import Load
from pods.pod_runner import ROOT, Pod, configure, pod_template, podman, wait_until

from authz.core.limits import Limit
from authz.demo.stack import Stack

ROUNDS, RATE = int(os.environ.get("ROUNDS", "20")), 300
_ENDPOINTS_S = 1.0  # how long after a pod's end began requests still arrive

NewPod = Callable[[], Pod]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    made = Stack()
    made.start()
    # The image's user must reach the sockets of the stores.
    made.folder.chmod(0o755)
    (made.folder / "postgres").chmod(0o711)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def new_pod(stack: Stack) -> Iterator[NewPod]:
    folder = Path(tempfile.mkdtemp(prefix="authz-pods-"))
    folder.chmod(0o755)
    configure(folder)
    envoy_image(folder)
    command: list[str | Path] = [
        ROOT / ".venv/tools/manifests/bin/kubectl",
        "kustomize",
        ROOT / "deploy/kubernetes/overlays/sidecar",
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    maps = {m["metadata"]["name"]: m["data"] for m in yaml.safe_load_all(text) if m["kind"] == "ConfigMap"}
    # The portal's Service is a name that only a cluster knows.
    envoy = maps["authz-envoy"]["envoy.yaml"].replace("address: authz-portal", "address: localhost")
    # A machine that starts containers for others as well stops for longer than a check may take. The test is whether
    # a request is lost, not how fast this machine is, so that the deadlines are ten times as long.
    envoy = envoy.replace("timeout: 0.2s", "timeout: 2s").replace("max_interval: 0.15s", "max_interval: 1.5s")
    assert "timeout: 2s" in envoy
    assert "max_interval: 1.5s" in envoy
    maps["authz-envoy"]["envoy.yaml"] = envoy
    contents = {
        **maps,
        "authz-stores": {"redis-url": stack.redis.url, "postgres-url": stack.postgres.url},
    }
    template = pod_template(text, "notes")
    version = next(c["image"].split(":")[1] for c in template["initContainers"] if c["name"] == "authz")
    images = {
        f"authz:{version}": f"localhost/authz:{version}",
        "notes:1": f"localhost/authz:{version}",
        "envoyproxy/envoy:distroless-v1.40.0": "localhost/envoy-for-tests",
    }
    deadlines = {"AUTHZ_REDIS_DEADLINE_S": "0.5", "AUTHZ_LOAD_WAIT_S": "1.4"}
    sidecar = next(container for container in template["initContainers"] if container["name"] == "authz")
    sidecar["env"] += [{"name": name, "value": value} for name, value in deadlines.items()]
    for container in [*template["initContainers"], *template["containers"]]:
        if container["name"] == "notes":
            container["resources"]["limits"]["memory"] = "128Mi"
        for name in ("postgres",):
            container.setdefault("volumeMounts", [])
            container["volumeMounts"].append({"name": name, "mountPath": str(stack.folder / name)})
    pods: list[Pod] = []

    def make() -> Pod:
        pod = Pod(template, f"authz-pod-{len(pods)}", folder, contents, images)
        (folder / pod.name).mkdir()
        (folder / pod.name / "postgres").symlink_to(stack.folder / "postgres")
        pods.append(pod)
        pod.start()
        return pod

    yield make
    for pod in pods:
        pod.remove()


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def new_key(stack: Stack) -> str:
    return stack.create_key("load", "servers:read", limit=Limit(1_000_000, 100_000)).secret


def envoy_image(folder: Path) -> None:
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


@pytest.mark.timeout(900)
async def test_no_request_fails_in_twenty_rolling_updates(new_pod: NewPod, stack: Stack) -> None:
    key = await asyncio.to_thread(new_key, stack)
    pod = await asyncio.to_thread(new_pod)
    load = Load(key, RATE, [pod.port])
    running = asyncio.create_task(load.run())
    for _ in range(ROUNDS):
        newer = await asyncio.to_thread(new_pod)
        load.endpoints.append(newer.port)
        stopping = asyncio.create_task(asyncio.to_thread(pod.stop))
        await asyncio.sleep(_ENDPOINTS_S)
        load.leave(pod.port)
        await stopping
        pod = newer
    load.end()
    await running
    print(f"\n{ROUNDS} rolling updates: {dict(load.statuses)}")
    print(*load.failures[:9], sep="\n")
    assert set(load.statuses) == {"200"}
    assert load.statuses["200"] > ROUNDS * RATE * 3


@pytest.mark.timeout(120)
async def test_the_limits_of_the_manifest_hold_under_load(new_pod: NewPod, stack: Stack) -> None:
    pod = await asyncio.to_thread(new_pod)
    key = await asyncio.to_thread(new_key, stack)
    command = ["wrk", "-t2", "-c64", "-d10s", "-H", f"x-api-key: {key}", f"http://127.0.0.1:{pod.port}/v1/servers"]
    shown = (await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)).stdout
    assert "Non-2xx" not in shown
    for name in ("authz", "envoy"):
        inspected = pod.inspect(name)
        assert inspected["State"]["Running"]
        assert not inspected["State"]["OOMKilled"]
        assert inspected["HostConfig"]["ReadonlyRootfs"]
        assert inspected["HostConfig"]["Memory"] > 0
        assert inspected["Config"]["User"] == "65532:65532"
        status = status_of(inspected["State"]["Pid"])
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["CapEff"], 16) == 0
        rss_mib = int(fields["VmHWM"].split()[0]) / 1024
        print(f"\n{name}: at most {rss_mib:.0f} MiB of {inspected['HostConfig']['Memory'] / 2**20:.0f}")
        assert rss_mib * 2**20 < 0.9 * inspected["HostConfig"]["Memory"]
    await asyncio.to_thread(pod.remove)


@pytest.mark.timeout(120)
async def test_a_crashed_authz_refuses_and_comes_back(new_pod: NewPod, stack: Stack) -> None:
    pod = await asyncio.to_thread(new_pod)
    key = await asyncio.to_thread(new_key, stack)
    load = Load(key, 50, [pod.port])
    running = asyncio.create_task(load.run())
    await asyncio.sleep(1)
    await asyncio.to_thread(podman, "kill", "--signal=KILL", pod.containers["authz"])
    await asyncio.sleep(1)
    await asyncio.to_thread(pod.restart, "authz")
    await asyncio.to_thread(wait_until, lambda: pod.inspect("authz")["State"]["Running"])
    await asyncio.sleep(4)
    before = load.statuses.copy()
    await asyncio.sleep(2)
    load.end()
    await running
    print(f"\na crash of a second: {dict(load.statuses)}")
    # Nothing is admitted without a decision, and nothing is said that is not true: a 503, then 200 again.
    assert set(load.statuses) == {"200", "503"}
    assert load.statuses["503"] == before["503"]
    await asyncio.to_thread(pod.remove)
