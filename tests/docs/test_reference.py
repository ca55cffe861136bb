"""The reference pages say what the code says: written anew, they are the same as those in docs/reference."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("commands", "envoy-rules", "metrics", "policy-fields", "settings", "statuses")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, "-m", "docs.generate", folder], cwd=ROOT, check=True)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_code_says(written: Path, page: str) -> None:
    shipped = (ROOT / "docs" / "reference" / f"{page}.md").read_text()
    assert (written / f"{page}.md").read_text() == shipped, "docs/reference is stale: run `make docs`"


def test_no_other_page_lies_in_the_reference(written: Path) -> None:
    names = {path.name for path in (ROOT / "docs" / "reference").iterdir()}
    assert names == {path.name for path in written.iterdir()} == {f"{page}.md" for page in PAGES}


def test_every_metric_label_and_setting_has_a_meaning(written: Path) -> None:
    rows = [
        line.strip("| ").split(" | ")
        for page in ("metrics", "settings", "policy-fields", "statuses")
        for line in (written / f"{page}.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    assert len(rows) > 80
    assert [row for row in rows if not row[-1].strip()] == []
