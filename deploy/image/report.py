"""Measures an image in one command: size, packages, SBOM, what is not in it, and the time from its start to readiness.

It needs podman; Redis and PostgreSQL are the demo's, on this machine.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError

from authz.adapters.postgres.migrations import migrate
from authz.demo.servers import PostgresServer, RedisServer, free_port

ROOT = Path(__file__).parents[2]
_UNWANTED = re.compile(r"bin/(sh|bash|dash|busybox|apt.*|dpkg.*|rpm|apk|pip.*|gcc.*|cc|ld|as|curl|wget|perl.*)$")
_START_S_MAX = 20


def main() -> None:
    """Print the figures of an image; exit with 1 if it holds what it must not hold, or does not start."""
    parser = argparse.ArgumentParser(description="Measure an image.")
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    parser.add_argument("image", nargs="?", default=f"localhost/authz:{version.group(1) if version else ''}")
    image: str = parser.parse_args().image
    with tempfile.TemporaryDirectory(prefix="authz-image-") as name:
        folder = Path(name)
        os.environ["CONTAINERS_CONF"] = str(Path(__file__).with_name("containers.conf"))
        print(f"image           {image}")
        print(f"version         {podman('run', '--rm', '--network=host', '--read-only', image, '--version').strip()}")
        inside(image, folder)
        print(f"start to ready  {start_s(image, folder):.2f} s")


def podman(*arguments: str | Path) -> str:
    """Return what a podman command prints; raises CalledProcessError."""
    return subprocess.run(["podman", *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def inside(image: str, folder: Path) -> None:
    """Print sizes and packages."""
    podman("save", "--quiet", "--format=oci-archive", "--output", folder / "oci.tar", image)
    size = int(json.loads(podman("image", "inspect", image))[0]["Size"])
    print(f"size            {size / 1e6:.0f} MB, {(folder / 'oci.tar').stat().st_size / 1e6:.0f} MB as OCI archive")
    container = podman("create", image).strip()
    podman("export", "--output", folder / "root.tar", container)
    podman("rm", container)
    with tarfile.open(folder / "root.tar") as root:
        names = root.getnames()
        sbom = root.extractfile("usr/share/sbom/authz.cdx.json")
        components = json.load(sbom)["components"] if sbom else []
    unwanted = sorted(name for name in names if _UNWANTED.search(name))
    installed = sorted(name for name in names if name.endswith(".dist-info/METADATA"))
    debian = [name for name in names if name.startswith("var/lib/dpkg/status.d/")]
    print(f"packages        {len(installed)} of Python, {len(debian)} of Debian; SBOM: {len(components)} components")
    print(f"unwanted files  {', '.join(unwanted) or 'none'}")
    if unwanted:
        sys.exit("error: the image holds a shell, a package manager or a compiler")
    missing = {_name(name) for name in installed} - {_plain(component["name"]) for component in components} - {"authz"}
    if missing:
        sys.exit(f"error: the SBOM lacks {', '.join(sorted(missing))}")


def start_s(image: str, folder: Path, tries: int = 5) -> float:
    """Return the median time from the start of a container to its first 200 of /readyz, in seconds."""
    redis, postgres = RedisServer(folder), PostgresServer(folder)
    redis.start()
    postgres.start()
    try:
        asyncio.run(migrate(postgres.url))
        sockets = f"--volume={folder}:{folder}"
        policy = f"--volume={ROOT / 'policies/truetick.yaml'}:/etc/authz/policy.yaml:ro"
        # The image's user connects to PostgreSQL's socket.
        folder.chmod(0o755)
        (folder / "postgres").chmod(0o711)
        environment = {"AUTHZ_REDIS_URL": redis.url, "AUTHZ_POSTGRES_URL": postgres.url}
        given = [f"--env={name}={value}" for name, value in environment.items()]
        return sorted(_one_start_s(image, [sockets, policy, *given]) for _ in range(tries))[tries // 2]
    finally:
        postgres.stop()
        redis.stop()


def _one_start_s(image: str, options: Sequence[str]) -> float:
    port = free_port()
    listen = [f"--env=AUTHZ_ADMIN_LISTEN=127.0.0.1:{port}", f"--env=AUTHZ_CHECK_LISTEN=127.0.0.1:{free_port()}"]
    safe = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host", "--memory=160m"]
    began_s = time.monotonic()
    container = podman("run", "--detach", *safe, *listen, *options, image).strip()
    try:
        while time.monotonic() - began_s < _START_S_MAX:
            with (
                suppress(URLError, OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer,
            ):
                if answer.status == 200:  # noqa: PLR2004 -- HTTP
                    return time.monotonic() - began_s
            time.sleep(0.02)
        sys.exit(f"error: not ready after {_START_S_MAX} s: {podman('logs', container)}")
    finally:
        podman("rm", "--force", "--time=5", container)


def _name(path: str) -> str:
    return _plain(Path(path).parent.name.split("-")[0])


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
