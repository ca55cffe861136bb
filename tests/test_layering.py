"""The architecture's import rules, and the limits on the size of modules and folders."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for path in (ROOT / "authz").rglob("*.py") if "_pb" not in path.parts)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LINES_MAX = 300
MODULES_MAX = 16

# Layer -> what it may import of ours; a layer may always import itself.
LAYERS = {
    "core": set[str](),
    "service": {"core"},
    "adapters": {"core", "service.ports", "service.portal.ports", "_pb.http_rule_pb2"},
    "edge": {"core", "service", "_pb"},
    "client": set[str](),
    "portal": {"core", "service"},
}
DRIVERS = {"asyncpg", "redis", "hiredis", "prometheus_client", "grpc", "uvicorn", "starlette", "yaml", "pydantic"}
DRIVERS |= {"opentelemetry", "fastapi", "jinja2", "argon2", "aiosmtplib", "email_validator"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def layer(path: Path) -> str:
    inside = path.relative_to(ROOT / "authz").parts
    return inside[0] if len(inside) > 1 else ""


@pytest.mark.parametrize("path", [path for path in SOURCES if layer(path) in LAYERS], ids=str)
def test_a_layer_imports_only_what_is_below_it(path: Path) -> None:
    allowed = {layer(path), *LAYERS[layer(path)]}
    for name in imports(path):
        if name.startswith("authz."):
            inside = name.removeprefix("authz.")
            assert any(inside == place or inside.startswith(f"{place}.") for place in allowed), name


@pytest.mark.parametrize("path", [path for path in SOURCES if layer(path) == "core"], ids=str)
def test_the_core_needs_nothing_but_the_standard_library_and_its_values(path: Path) -> None:
    outside = {name.partition(".")[0] for name in imports(path)} - {"authz"}
    assert outside - {"msgspec"} <= set(sys.stdlib_module_names)
    assert "msgspec" not in outside or path.name == "value.py"
    assert not outside & {"asyncio", "socket", "time", "os", "random", "secrets", "logging"}


@pytest.mark.parametrize("path", [path for path in SOURCES if layer(path) == "service"], ids=str)
def test_no_driver_shows_in_a_use_case(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & DRIVERS


def test_only_the_settings_read_the_environment() -> None:
    readers = {path for path in SOURCES if "os.environ" in path.read_text() or "getenv" in path.read_text()}
    # The variables of libpq belong to the URL of Postgres.
    allowed = ("settings.py", "demo/servers.py", "client/choices.py", "adapters/postgres/url.py")
    assert readers <= {ROOT / "authz" / path for path in allowed}


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=str)
def test_no_module_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


def test_no_folder_holds_more_than_16_modules() -> None:
    modules = Counter(path.parent for path in [*SOURCES, *TESTS] if path.name != "__init__.py")
    assert {folder: count for folder, count in modules.items() if count > MODULES_MAX} == {}


def test_only_folders_and_what_mirrors_the_root_lie_in_tests() -> None:
    assert {path.name for path in (ROOT / "tests").glob("*.py")} == {
        "conftest.py",
        "test_layering.py",
        "test_settings.py",
    }


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
