"""The operator's commands where the packages of the extras are missing, as in the sidecar's image."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_RUN = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from authz.__main__ import main
main()
"""
# Each extra's packages as modules, where their names differ.
_MODULES = {"argon2-cffi": "argon2", "email-validator": "email_validator", "python-multipart": "python_multipart"}


def missing() -> str:
    """Return the modules of the portal's extra that no dependency of the sidecar brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [each.partition(">")[0].partition("=")[0] for each in project["optional-dependencies"]["portal"]]
    base = [each.partition(">")[0] for each in project["dependencies"]]
    return ",".join(_MODULES.get(name, name) for name in names if name not in base)


def authz(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"AUTHZ_POSTGRES_URL": "postgresql://a@127.0.0.1:1/a", "AUTHZ_REDIS_URL": "redis://127.0.0.1:1/0"}
    command = [sys.executable, "-c", _RUN, missing(), *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("accounts", "create", "Ada"),
        ("keys", "create", "acct_1", "--name", "a", "--scope", "servers:read"),
        ("keys", "rotate", "key_1", "--overlap", "1h"),
        ("streams", "list", "--account", "acct_1"),
        ("migrate",),
    ],
    ids=" ".join,
)
def test_a_command_goes_as_far_as_the_stores(arguments: tuple[str, ...]) -> None:
    ended = authz(*arguments)
    assert ended.returncode
    assert "Traceback" not in ended.stderr
    assert "unavailable" in ended.stderr


def test_an_e_mail_address_names_the_extra_that_reads_it() -> None:
    ended = authz("accounts", "create", "Ada", "--email", "ada@example.com")
    assert ended.returncode
    assert "authz[portal]" in ended.stderr
    assert "Traceback" not in ended.stderr
