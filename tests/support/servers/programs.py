"""Programs from Debian's packages that some tests run: their path, or the reason of a skip or a failure."""

import os
import shutil

import pytest


def program(name: str) -> str:
    """Return where a program is; without it a test is skipped, except where CI has to have it."""
    path = shutil.which(name)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"there is no {name}: make programs")
    return path
