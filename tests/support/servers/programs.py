"""Programs from Debian's packages that some tests run: their path, or the reason of a skip or a failure."""

import os
import shutil
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
UNPACKED = _ROOT / os.environ.get("TEST_PROGRAMS", "build/programs")
"""Where `make programs` or `programs-newer` unpacks packages that would start a daemon if they were installed."""


def program(name: str) -> str:
    """Return where a program is; without it a test is skipped, except where CI has to have it."""
    path = shutil.which(name)
    if path is None:
        _missing(name)
    return str(path)


def unpacked(name: str) -> tuple[str, str]:
    """Return where a daemon's program is, and the folder of its libraries; without it as `program`."""
    paths = [UNPACKED / "usr" / folder / name for folder in ("sbin", "bin")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        _missing(name)
    return str(path), ":".join(map(str, (UNPACKED / "usr" / "lib").glob("*-linux-gnu")))


def _missing(name: str) -> None:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"there is no {name}: make programs")
