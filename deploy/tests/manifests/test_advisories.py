"""Which locked packages advisories on disk concern: the forms of ranges, and that nothing passes for want of data."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

PROGRAM = Path(__file__).parents[2] / "image/advisories.py"


def scanned(folder: Path, *pins: str) -> tuple[int, list[str]]:
    """Return the exit code and the packages that are reported, for a lock of these pins."""
    lock = folder / "lock.txt"
    lock.write_text("".join(f"{pin} \\\n    --hash=sha256:0\n" for pin in pins))
    command: list[str | Path] = [sys.executable, PROGRAM, folder, lock]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    reported = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    return done.returncode, reported


def advisory(folder: Path, package: str, affected: dict[str, Any], **more: str) -> None:
    file = folder / "vulns" / package / f"{package}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    named = {"package": {"ecosystem": "PyPI", "name": package}, **affected}
    file.write_text(yaml.safe_dump({"id": f"ID-{package}", "affected": [named], **more}))


def of_range(*events: dict[str, str]) -> dict[str, Any]:
    return {"ranges": [{"type": "GIT", "events": [{"fixed": "abc"}]}, {"type": "ECOSYSTEM", "events": list(events)}]}


@pytest.mark.parametrize(
    ("affected", "concerned"),
    [
        (of_range({"introduced": "0"}, {"fixed": "1.10"}), {"1.9", "1.2", "0.1"}),
        (of_range({"introduced": "1.2"}, {"last_affected": "1.10"}), {"1.2", "1.9", "1.10"}),
        (of_range({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.9"}), {"0.1", "1.9", "1.10", "2.0"}),
        ({"versions": ["1.9", "2.0"]}, {"1.9", "2.0"}),
        (of_range({"introduced": "0"}, {"fixed": "1.0-n653"}), {"0.1", "1.2", "1.9", "1.10", "2.0"}),
        ({"versions": ["1.9"], **of_range({"introduced": "0"}, {"fixed": "1.0-n653"})}, {"1.9"}),
    ],
)
def test_versions_are_compared_as_versions(tmp_path: Path, affected: dict[str, Any], concerned: set[str]) -> None:
    advisory(tmp_path, "some-package", affected)
    _, found = scanned(tmp_path, *(f"Some_Package=={each}" for each in ("0.1", "1.2", "1.9", "1.10", "2.0")))
    assert set(found) == {f"some-package {version}: ID-some-package" for version in concerned}


def test_each_form_of_a_checkout_is_read(tmp_path: Path) -> None:
    advisory(tmp_path, "one", {"versions": ["1.0"]})
    advisory(tmp_path, "withdrawn", {"versions": ["1.0"]}, withdrawn="2026-01-01T00:00:00Z")
    (tmp_path / "data").mkdir()
    listed = {"$meta": {"timestamp": 0}, "Other": ["<1.0", ">=1.5,<2.1"], "odd": ["<1.0-n653"]}
    (tmp_path / "data/insecure.json").write_text(json.dumps(listed))
    code, found = scanned(tmp_path, "one==1.0", "withdrawn==1.0", "other==2.0", "odd==3.0", "unknown==1.0")
    assert (code, found) == (1, ["one 1.0: ID-one", "other 2.0: safety-db", "odd 3.0: safety-db"])
    assert scanned(tmp_path, "one==1.1", "other==1.2", "unknown==1.0") == (0, [])


def test_a_folder_without_advisories_is_an_error(tmp_path: Path) -> None:
    assert scanned(tmp_path, "one==1.0") == (2, [])
