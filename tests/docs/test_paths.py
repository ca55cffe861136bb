"""Every file and every function that the documentation names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
TOP = ("authz", "tests", "docs", "deploy", "policies", "protos", "envoy.yaml", "pyproject.toml", "Makefile", ".ci")

# `tests/e2e/test_paths.py`, `authz/core/`, envoy.yaml: what begins like something at the top.
_NAMED = re.compile(r"(?<![\w./~-])((?:" + "|".join(map(re.escape, TOP)) + r")(?:/[\w.-]+)*/?)(?![\w*…/-])")
_TEST = re.compile(r"(?<![\w/])((?:[a-z0-9_]+/)*test_[a-z0-9_]+\.py)")
_LABELS = {"authz/client", "authz/sidecar", "authz/protected", "authz/NAMESPACE"}  # of Kubernetes and PodMonitors
_LINK = re.compile(r"\]\(([^)#]+)(?:#([^)]+))?\)")
_STEP = re.compile(r"^\|[^|]+\| `(authz/[^`]+)` \| `([a-z_]+)` \|$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_a_named_file_exists(guide: Path) -> None:
    named = {name.rstrip(".") for name in _NAMED.findall(guide.read_text()) if "/" in name or "." in name}
    assert {name for name in named if not (ROOT / name).exists()} - _LABELS == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_a_named_test_exists(guide: Path) -> None:
    named = {name.removeprefix("tests/") for name in _TEST.findall(guide.read_text())}
    assert {name for name in named if not (ROOT / "tests" / name).exists()} == set()


@pytest.mark.parametrize("page", [*GUIDES, *sorted((ROOT / "docs").glob("*/*.md"))], ids=lambda path: path.name)
def test_a_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for target, anchor in [*_LINK.findall(page.read_text()), *re.findall(r"\]\(()#([^)]+)\)", page.read_text())]:
        if "://" not in target:
            other = page.parent / target if target else page
            assert other.exists(), target
            assert not anchor or anchor in anchors(other), f"{target}#{anchor}"


def test_the_architecture_names_functions_that_exist() -> None:
    steps = _STEP.findall((ROOT / "docs" / "architecture.md").read_text())
    assert len(steps) > 10
    for file, function in steps:
        assert re.search(rf"def {function}\(", (ROOT / file).read_text()), f"{file}: {function}"


def test_the_architecture_lists_twenty_changes_with_a_file_for_each() -> None:
    rows = re.findall(r"^\| [0-9]+ \|[^|]+\|([^|]+)\|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert len(rows) >= 20
    assert [row for row in rows if not _NAMED.search(row)] == []


@pytest.mark.parametrize("image", sorted((ROOT / "docs" / "images").iterdir()), ids=lambda path: path.name)
def test_an_image_is_small_and_shown(image: Path) -> None:
    assert image.stat().st_size < 150_000
    assert f"docs/images/{image.name}" in (ROOT / "README.md").read_text()
