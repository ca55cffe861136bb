"""Installs the locked wheels into /opt/authz, in the image's build stage, which has Python and no shell.

It downloads nothing. What is locked is in `deploy/requirements*.txt`.
"""

import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

WHEELS = Path("/build/wheels")
TARGET = Path("/opt/authz")


def main(lock: str) -> None:
    """Make the environment from a lock file, then compile it: the image is read-only."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", TARGET], check=True)
    (pip,) = WHEELS.glob("pip-*.whl")
    (authz,) = WHEELS.glob("authz-*.whl")
    install: list[str | Path] = [
        TARGET / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-compile",
    ]
    environment = {**os.environ, "PYTHONPATH": str(pip), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "HOME": "/tmp"}  # noqa: S108 -- the build's own
    locked: list[str | Path] = ["--require-hashes", "--find-links", WHEELS, "--requirement", lock]
    subprocess.run([*install, *locked], check=True, env=environment)
    subprocess.run([*install, authz], check=True, env=environment)
    (packages,) = TARGET.glob("lib/python3.*/site-packages")
    shutil.copy("/build/build-info.json", packages / "authz" / "build-info.json")
    for name in ("activate", "activate.csh", "activate.fish", "Activate.ps1"):
        (TARGET / "bin" / name).unlink()
    # By hash and unchecked: the same bytes from the same wheels, and no look at the sources at the start.
    mode = PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(packages, quiet=1, invalidation_mode=mode):
        raise SystemExit("a module does not compile")


if __name__ == "__main__":
    main(sys.argv[1])
