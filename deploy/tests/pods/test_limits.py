"""What the shipped sidecar manifest limits, held under `wrk`: memory, root, user and capabilities.

`make pods` runs this; it needs podman, runc, `wrk`, and the image from `make image`.
"""

import asyncio
import subprocess
from pathlib import Path

import pytest
from pods.conftest import NewPod


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


@pytest.mark.timeout(120)
async def test_the_limits_of_the_manifest_hold_under_load(new_pod: NewPod, key: str) -> None:
    pod = await asyncio.to_thread(new_pod)
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
