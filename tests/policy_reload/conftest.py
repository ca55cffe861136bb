"""Fixtures of the tests of reloads: a policy file, and reads in the process of the test."""

from pathlib import Path

import pytest
from support.reloading import TEXT

from authz.policy_reload.child import read
from authz.policy_reload.source import PolicySource


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process, which is faster: the child does the same."""
    monkeypatch.setattr(PolicySource, "_run", lambda _source, request: read(request))


@pytest.fixture
def file(folder: Path) -> Path:
    path = folder / "policy.yaml"
    path.write_text(TEXT)
    return path
