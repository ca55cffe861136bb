"""Several limits through a real Envoy: taken together, named in the headers, by row and by plan."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.clients.raw_http import send
from support.servers.echo_backend import echo_backend
from support.servers.envoys import running_envoy, shipped_config

from authz.core.accounts import AuditEvent, NewApiKey
from authz.demo.stack import ACTOR, Stack
from authz.service.keys.admin import KeyRequest

POLICY = Path(__file__).parents[2] / "data" / "limits.yaml"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack(env={"AUTHZ_POLICY_FILE": str(POLICY)})
    stack.settings = stack.settings.model_copy(update={"policy_file": POLICY})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def url(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ExitStack() as running:
        _, port = running.enter_context(echo_backend())
        config = shipped_config(stack.check_ports, port)
        yield running.enter_context(running_envoy(tmp_path_factory.mktemp("envoy"), config))


def new_key(stack: Stack, plan: str = "") -> NewApiKey:
    account = stack.administer(lambda admin: admin.create_account("Ada", None, ACTOR))
    request = KeyRequest(account.id, "key", frozenset({"servers:read"}), plan=plan)
    return stack.administer(lambda admin: admin.create_key(request, ACTOR))


def authz(stack: Stack, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")}
    stores = {"AUTHZ_REDIS_URL": stack.redis.url, "AUTHZ_POSTGRES_URL": stack.postgres.url}
    return subprocess.run(
        [sys.executable, "-m", "authz", *arguments],
        env={**kept, "COLUMNS": "200", **stores, "AUTHZ_POLICY_FILE": str(POLICY), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def asked(url: str, path: str, key: NewApiKey) -> tuple[int, str, str, str]:
    """Return the status, RateLimit-Policy, the bucket of RateLimit with what is left, and Retry-After."""
    answer = send(url, "GET", path, ("x-api-key", key.secret))
    headers = {name.lower(): value for name, value in answer.headers}
    left = headers["ratelimit"].partition(";t=")[0]
    return answer.status, headers["ratelimit-policy"], left, headers.get("retry-after", "")


def test_a_check_takes_from_every_bucket_or_from_none(stack: Stack, url: str) -> None:
    key = new_key(stack)
    listed = (
        '"default";q=20;w=20000, "daily";q=6;w=86400, "search";q=3;w=300, "search-2";q=30;w=86400, '
        '"account";q=100;w=100000'
    )
    found = [asked(url, "/v1/search", key) for _ in range(5)]
    assert [it[:3] for it in found] == [
        (200, listed, '"search";r=2'),
        (200, listed, '"search";r=1'),
        (200, listed, '"search";r=0'),
        (429, listed, '"search";r=0'),
        (429, listed, '"search";r=0'),
    ]
    assert 90 <= int(found[-1][3]) <= 100
    # Three of six are left in the bucket of every row.
    found = [asked(url, "/v1/orders", key) for _ in range(4)]
    assert [(it[0], it[2]) for it in found] == [
        (200, '"daily";r=2'),
        (200, '"daily";r=1'),
        (200, '"daily";r=0'),
        (429, '"daily";r=0'),
    ]
    assert found[-1][1] == '"default";q=20;w=20000, "daily";q=6;w=86400, "account";q=100;w=100000'


def test_a_plan_applies_to_the_next_request(stack: Stack, url: str) -> None:
    key = new_key(stack)
    assert [asked(url, "/v1/orders", key)[0] for _ in range(7)] == [200] * 6 + [429]
    stack.administer(lambda admin: admin.change_key(key.key.id, AuditEvent.KEY_PLAN_SET, ACTOR, "gold"))
    status, listed, left, _ = asked(url, "/v1/orders", key)
    assert (status, listed) == (200, '"gold";q=50;w=50000, "gold-daily";q=40;w=86400, "account";q=100;w=100000')
    # The first bucket keeps its tokens, of which six are gone.
    assert left == '"gold";r=13'


def test_a_key_of_a_plan_from_the_start_has_its_limits(stack: Stack, url: str) -> None:
    key = new_key(stack, "gold")
    assert asked(url, "/v1/orders", key)[2] == '"gold-daily";r=39'


def test_commands_give_a_key_a_plan_and_list_those_that_the_policy_lacks(
    stack: Stack, url: str, tmp_path: Path
) -> None:
    account = stack.administer(lambda admin: admin.create_account("Ada", None, ACTOR))
    created = authz(
        stack, "keys", "create", account.id, "--name", "k", "--scope", "servers:read", "--plan", "gold", "--json"
    )
    made = json.loads(created.stdout)
    assert (made["plan"], made["limit"]) == ("gold", None)
    refused = authz(stack, "keys", "set-plan", made["id"], "silver")
    assert (refused.returncode, refused.stderr) == (3, "refused: the policy has no plan silver\n")
    listed = authz(stack, "keys", "plans", "--json")
    assert listed.returncode == 0
    assert {it["plan"]: it["in_policy"] for it in json.loads(listed.stdout)} == {"gold": True}

    other = tmp_path / "other.yaml"
    other.write_text(POLICY.read_text().replace("  gold: [gold, gold-daily]", "  silver: [gold, gold-daily]"))
    lacking = authz(stack, "keys", "plans", AUTHZ_POLICY_FILE=str(other))
    assert lacking.returncode == 1
    assert "have the limits of a key without a plan" in lacking.stderr

    done = authz(stack, "keys", "set-plan", made["id"])
    assert done.stdout == f"{made['id']} has no plan\n"
    answer = send(url, "GET", "/v1/orders", ("x-api-key", made["api_key"]))
    assert {name.lower(): value for name, value in answer.headers}["ratelimit-policy"].startswith('"default"')
