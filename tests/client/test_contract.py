"""`truetick` from login to logout, against the contract's server and against the real portal behind Envoy."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from support.clients.portal_client import PASSWORD, PortalClient
from support.clients.terminal import running, truetick
from support.servers.truetick_api import ContractApi, contract_api

from authz.demo.stack import Stack


class World(Protocol):
    """Where the command logs in, and how its user answers in a browser."""

    url: str

    def approve(self, user_code: str, email: str) -> None: ...
    def refuse(self, user_code: str, email: str) -> None: ...


class Contract:
    def __init__(self, api: ContractApi) -> None:
        self.url = api.url
        self.approve = api.approve
        self._api = api

    def refuse(self, user_code: str, _email: str) -> None:
        self._api.refuse(user_code)


class Portal:
    def __init__(self, stack: Stack) -> None:
        self.url = stack.url

    def approve(self, user_code: str, email: str) -> None:
        self._decide(email, f"{user_code}:approve", {"scopes": ["servers:read", "console"]})

    def refuse(self, user_code: str, email: str) -> None:
        self._decide(email, f"{user_code}:refuse", {})

    def _decide(self, email: str, decision: str, document: dict[str, object]) -> None:
        owner = PortalClient(self.url)
        owner.email = email
        owner.log_in()
        grant = owner.session("GET", f"/device/{decision.partition(':')[0]}").json()
        assert grant["client"].startswith("truetick/")
        answer = owner.session("POST", f"/device/{decision}", document)
        assert answer.status_code == 204, answer.text
        owner.client.close()


@pytest.fixture(params=["contract", pytest.param("portal", marks=pytest.mark.server)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "portal":
        yield Portal(request.getfixturevalue("portal_stack"))
        return
    with contract_api() as api:
        yield Contract(api)


@pytest.fixture
def email(home: Path, world: World) -> str:
    """An account that has signed up, and logged out again."""
    email = f"{os.urandom(6).hex()}@example.com"
    done = truetick(home, "signup", "--email", email, "--password", PASSWORD, "--url", world.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"logged in as {email} (acct_")
    assert truetick(home, "logout").returncode == 0
    return email


def saved_key(home: Path) -> str:
    return str(json.loads((home / ".truetick" / "config.json").read_text())["apiKey"])


def started(home: Path, world: World, answer: str, email: str) -> tuple[int, dict[str, object]]:
    """Log a device in, its code being approved or refused as a browser would."""
    with running(home, "login", "--json", "--url", world.url) as process:
        assert process.stderr
        shown = ""
        while "waiting" not in shown:
            shown += process.stderr.readline()
        user_code = next(line for line in shown.splitlines() if line.startswith("    ")).strip()
        assert f"{world.url}/device?code={user_code}\n" in shown
        getattr(world, answer)(user_code, email)
        out, _ = process.communicate(timeout=40)
    return process.returncode, json.loads(out)


def test_a_device_that_is_approved_has_a_key_that_works(home: Path, world: World, email: str) -> None:
    code, document = started(home, world, "approve", email)
    assert (code, document["email"], document["url"]) == (0, email, world.url)
    whoami = truetick(home, "whoami", "--json")
    assert json.loads(whoami.stdout) == {
        "accountId": document["accountId"],
        "email": email,
        "emailVerified": False,
    }


def test_a_device_that_is_refused_gets_nothing(home: Path, world: World, email: str) -> None:
    code, document = started(home, world, "refuse", email)
    assert code == 5
    assert document == {"error": "the code has expired or was refused: run truetick login again"}
    assert truetick(home, "whoami").returncode == 4


def test_each_login_has_a_key_of_its_own_for_the_same_account(home: Path, email: str) -> None:
    keys = set()
    for _ in range(2):
        assert truetick(home, "login", "--email", email, "--password", "-", stdin=PASSWORD).returncode == 0
        keys.add(saved_key(home))
    assert len(keys) == 2
    for key in keys:
        assert truetick(home, "login", "--key", "-", stdin=key).returncode == 0
        assert json.loads(truetick(home, "whoami", "--json", TRUETICK_API_KEY=key).stdout)["email"] == email


def test_refusals_are_in_the_apis_words(home: Path, world: World, email: str) -> None:
    unknown = "ttk_" + "0" * 49
    for arguments, refusal in (
        (("signup", "--email", email, "--password", PASSWORD), (3, "error: email already registered\n")),
        (("login", "--email", email, "--password", "wrong"), (3, "error: invalid email or password\n")),
        (("login", "--email", "nobody@example.com", "--password", "x"), (3, "error: invalid email or password\n")),
        (("login", "--key", unknown), (4, "error: invalid or missing api key\n")),
    ):
        done = truetick(home, *arguments, "--url", world.url)
        assert (done.returncode, done.stderr) == refusal
