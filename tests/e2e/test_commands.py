"""The `authz` command as an operator uses it, in separate processes, against the real stores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.clients.raw_http import send_settled

from authz import __version__
from authz.demo.servers import shipped
from authz.demo.stack import Stack

ROOT = Path(__file__).parents[2]


def authz(stack: Stack | None, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    where = {}
    if stack is not None:
        where = {"AUTHZ_REDIS_URL": stack.redis.url, "AUTHZ_POSTGRES_URL": stack.postgres.url}
        where["AUTHZ_POLICY_FILE"] = str(shipped("policies/truetick.yaml"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")}
    return subprocess.run(
        [sys.executable, "-m", "authz", *arguments],
        env={**kept, "COLUMNS": "200", **where, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_key_from_its_making_to_its_end(stack: Stack) -> None:
    account = json.loads(authz(stack, "accounts", "create", "Grace", "--json").stdout)
    made = authz(stack, "keys", "create", account["id"], "--name", "ci", "--scope", "servers:read", "--expires", "30d")
    secret, key_id = made.stdout.strip(), made.stderr.partition(":")[0]

    (listed,) = json.loads(authz(stack, "keys", "list", account["id"], "--json").stdout)
    assert listed["id"] == key_id
    assert secret not in str(listed)
    assert json.loads(authz(stack, "keys", "show", key_id, "--json").stdout) == listed
    assert key_id in authz(stack, "keys", "show", key_id).stdout
    # Only now, for from its first use on a key is shown with the time of its last.
    assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", secret)).status == 200

    for command, status in (("disable", 401), ("enable", 200)):
        assert authz(stack, "keys", command, key_id).returncode == 0
        assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", secret)).status == status
    assert authz(stack, "keys", "limit", key_id, "--capacity", "1", "--refill-per-s", "0.001").returncode == 0
    statuses = [send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", secret)).status for _ in range(2)]
    assert statuses == [200, 429]
    assert json.loads(authz(stack, "keys", "limit", key_id, "--json").stdout) == {"id": key_id, "done": "limited"}

    for command, status in (("suspend", 401), ("reinstate", 200)):
        assert authz(stack, "accounts", command, account["id"]).returncode == 0
        assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", secret)).status == status
    assert authz(stack, "keys", "revoke", key_id).stdout == f"{key_id} revoked\n"
    assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", secret)).status == 401
    assert account["id"] in authz(stack, "accounts", "list").stdout
    assert authz(stack, "keys", "reconcile").stdout == "0 records written\n"
    assert int(authz(stack, "keys", "reconcile", "--all").stdout.split()[0]) > 0


def test_a_rotated_key_works_beside_the_new_one_and_then_ends_by_itself(stack: Stack) -> None:
    made = stack.create_key("rotated", "servers:read")
    assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", made.secret)).status == 200
    rotated = authz(stack, "keys", "rotate", made.key.id, "--overlap", "4s")
    assert rotated.returncode == 0
    fresh, new_id = rotated.stdout.strip(), rotated.stderr.partition(":")[0]
    assert f"{made.key.id} works until " in rotated.stderr
    statuses = [
        send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", key)).status for key in (made.secret, fresh)
    ]
    assert statuses == [200, 200]
    while send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", made.secret)).status != 401:
        pass
    assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", fresh)).status == 200

    again = authz(stack, "keys", "rotate", new_id, "--overlap", "0", "--json")
    document = json.loads(again.stdout)
    assert (document["replaces"], document["old"]["id"]) == (new_id, new_id)
    assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", fresh)).status == 401
    assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", document["api_key"])).status == 200
    refused = authz(stack, "keys", "enable", new_id)
    assert (refused.returncode, refused.stderr) == (3, f"refused: the key {new_id} is revoked, for good\n")


def test_a_rotation_that_redis_did_not_learn_of_still_shows_the_new_key(stack: Stack, tmp_path: Path) -> None:
    made = stack.create_key("rotated", "servers:read")
    nowhere = f"unix://{tmp_path}/none.sock"
    rotated = authz(stack, "keys", "rotate", made.key.id, "--overlap", "0", AUTHZ_REDIS_URL=nowhere)
    assert (rotated.returncode, "not done yet:" in rotated.stderr) == (4, True)
    assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", rotated.stdout.strip())).status == 200
    while send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", made.secret)).status != 401:
        pass


def test_failures_are_one_line_and_an_exit_code(stack: Stack, tmp_path: Path) -> None:
    refused = authz(stack, "keys", "revoke", "key_none")
    assert (refused.returncode, refused.stderr) == (3, "refused: there is no key key_none\n")
    nowhere = f"unix://{tmp_path}/none.sock"
    account = json.loads(authz(stack, "accounts", "create", "Ada", "--json").stdout)["id"]
    key = json.loads(authz(stack, "keys", "create", account, "--name", "x", "--scope", "console", "--json").stdout)
    pending = authz(stack, "keys", "revoke", key["id"], AUTHZ_REDIS_URL=nowhere)
    assert (pending.returncode, pending.stderr.partition(":")[0]) == (4, "not done yet")
    gone = authz(stack, "accounts", "list", AUTHZ_POSTGRES_URL=f"postgresql://u:hunter2@/x?host={tmp_path}")
    assert gone.returncode == 1
    assert gone.stderr.startswith("error: postgres unavailable")
    assert "hunter2" not in gone.stderr + gone.stdout
    wrong = authz(stack, "accounts", "list", AUTHZ_REDIS_DEADLINE_S="soon")
    assert (wrong.returncode, "AUTHZ_REDIS_DEADLINE_S" in wrong.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create", "acct_1", "--name", "x"),
        ("keys", "create", "acct_1", "--name", "x", "--scope", "console", "--expires", "soon"),
        ("keys", "create", "acct_1", "--name", "x", "--scope", "console", "--capacity", "3"),
        ("keys", "rotate", "key_1"),
        ("keys", "rotate", "key_1", "--overlap", "an hour"),
        ("keys", "rotate", "key_1", "--overlap", "60"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_exits_with_two(arguments: tuple[str, ...]) -> None:
    assert authz(None, *arguments).returncode == 2


def test_a_change_made_while_redis_is_away_is_made_effective_by_the_sidecar(stack: Stack, tmp_path: Path) -> None:
    made = stack.create_key("later", "servers:read")
    assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", made.secret)).status == 200
    assert authz(stack, "keys", "revoke", made.key.id, AUTHZ_REDIS_URL=f"unix://{tmp_path}/none.sock").returncode == 4
    while send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", made.secret)).status != 401:
        pass


def test_a_policy_is_checked_as_the_sidecar_would() -> None:
    good = authz(None, "policy", "lint", "policies/truetick.yaml")
    assert (good.returncode, good.stdout) == (0, "policies/truetick.yaml: 84 routes, 7 scopes, no faults\n")
    path = "tests/data/policies/01-misspelt-field.yaml"
    bad = authz(None, "policy", "lint", path)
    assert (bad.returncode, bad.stderr) == (1, f"{path}:12:5: unknown field scpoe; did you mean scope?\n")
    serve = authz(None, "serve", AUTHZ_POLICY_FILE=path)
    assert (serve.returncode, serve.stderr) == (1, bad.stderr)
    schema = json.loads(authz(None, "policy", "schema").stdout)
    assert schema["title"] == "Document"


def test_a_policy_that_cannot_be_loaded_is_one_line_for_every_command(stack: Stack, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.yaml")
    for arguments in (("keys", "list", "acct_1"), ("accounts", "list"), ("serve",), ("policy", "lint", missing)):
        done = authz(stack, *arguments, AUTHZ_POLICY_FILE=missing)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{missing}:0:0: cannot be read")
        assert done.stderr.count("\n") == 1


def test_settings_and_version_are_listed() -> None:
    listed = json.loads(authz(None, "settings", "--json").stdout)
    assert {"AUTHZ_POLICY_FILE", "AUTHZ_REDIS_FAILURE"} <= {row["variable"] for row in listed}
    shown = authz(None, "settings").stdout
    assert "AUTHZ_POLICY_FILE" in shown
    assert "[user:password@" in shown
    assert authz(None, "--version").stdout == f"{__version__} (commit unknown, policy grammar 2)\n"


def test_migrating_again_changes_nothing(stack: Stack) -> None:
    assert authz(stack, "migrate").stdout == "up to date\n"


def test_a_heartbeat_too_slow_for_the_policys_streams_is_no_start() -> None:
    done = authz(None, "serve", AUTHZ_STREAM_HEARTBEAT_S="21")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: AUTHZ_STREAM_HEARTBEAT_S: the ttl_s of stream class logs is 60 s, which must be at least 3 heartbeats"
    )
