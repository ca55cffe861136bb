"""One's own API from its OpenAPI file to a request through Envoy, and keys that another system has made."""

import asyncio
import hashlib
import io
import json
import os
import secrets
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import asyncpg
import pytest
from support.clients.raw_http import send_settled

from authz.cli.app import app
from authz.cli.failures import reporting
from authz.core.limits import Limit
from authz.demo.own_api import OwnApi
from authz.demo.servers import Server, free_port, shipped
from authz.demo.stack import Stack

SPEC: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Acme"},
    "servers": [{"url": "https://api.acme.example/v2"}],
    "security": [{"key": []}],
    "components": {"securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Acme-Key"}}},
    "paths": {
        "/pets": {"get": {"tags": ["pets"]}, "post": {"tags": ["pets"]}},
        "/pets/{pet-id}": {"get": {"tags": ["pets"]}},
        "/compare/{a}...{b}": {"get": {"tags": ["pets"]}},
        "/orders": {"post": {"tags": ["orders"]}},
        "/events": {"get": {"tags": ["orders"], "responses": {"200": {"content": {"text/event-stream": {}}}}}},
        "/status": {"get": {"security": []}},
    },
}
FOREIGN = "active_max: 25, foreign: [{prefix: sk_live_, alphabet: base62, chars_min: 24, chars_max: 24}]}"
HEADER = "x-acme-key"


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def authz(stack: Stack | None, *arguments: str, **env: str) -> Ended:
    """Run a command in this process."""
    where = {}
    if stack is not None:
        where = {"AUTHZ_REDIS_URL": stack.redis.url, "AUTHZ_POSTGRES_URL": stack.postgres.url}
        where["AUTHZ_POLICY_FILE"] = str(stack.settings.policy_file)
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ, {**where, **env}), redirect_stdout(out), redirect_stderr(err):
        code = reporting(lambda: app(list(arguments), standalone_mode=False, prog_name="authz"))
    return Ended(code, out.getvalue(), err.getvalue())


def secret() -> str:
    return f"sk_live_{secrets.token_hex(12)}"


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("own")
    spec = folder / "api.json"
    spec.write_text(json.dumps(SPEC))
    port = free_port()
    backend = f"http://127.0.0.1:{port}"
    made = authz(
        None, "init", "--openapi", str(spec), "--prefix", "acme_", "--backend", backend, "--folder", str(folder)
    )
    assert made.returncode == 0, made.stderr
    policy = folder / "policy.yaml"
    text = policy.read_text().replace("active_max: 25}", FOREIGN)
    text = text.replace("  - scope: orders:write\n", "  - scope: orders:write\n    account: body:account_id\n")
    policy.write_text(text)
    command = [sys.executable, "-m", "authz.demo.backend", "--port", str(port)]
    server = Server("own backend", command, folder / "backend.log")
    stack = Stack(own=OwnApi.checked(policy, backend))
    try:
        server.start(lambda: send_is_up(backend))
        stack.start()
        yield stack
    finally:
        stack.stop()
        server.stop()


def send_is_up(url: str) -> bool:
    try:
        return send_settled(url, "GET", "/").status == 200
    except OSError:
        return False


def status(stack: Stack, method: str, path: str, key: str = "", body: str = "") -> int:
    headers = [(HEADER, key)] if key else []
    if body:
        headers.append(("content-type", "application/json"))
    return send_settled(stack.url, method, path, *headers, body=body.encode()).status


def keys_import(stack: Stack, path: Path, *arguments: str) -> Ended:
    return authz(stack, "keys", "import", str(path), *arguments)


def test_an_imported_api_is_answered_as_it_is_described(own: Stack) -> None:
    key = own.create_key("reader", "pets:read", limit=Limit(20, 0.001)).secret
    assert status(own, "GET", "/v2/pets", key) == 200
    assert status(own, "GET", "/v2/pets/x", key) == 200
    assert status(own, "GET", "/v2/compare/main...topic", key) == 200
    assert status(own, "GET", "/v2/pets") == 401
    assert status(own, "POST", "/v2/pets", key) == 403
    assert status(own, "GET", "/v2/events", key) == 403
    assert status(own, "GET", "/pets", key) == 404
    assert status(own, "PATCH", "/v2/pets", key) == 405
    assert status(own, "GET", "/v2/status") == 200
    statuses = [status(own, "GET", "/v2/pets", key) for _ in range(20)]
    assert statuses[-1] == 429
    # The shipped header is any other one here.
    assert send_settled(own.url, "GET", "/v2/pets", ("x-api-key", key)).status == 401


def test_a_row_that_binds_a_body_gets_it_from_envoy(own: Stack) -> None:
    key = own.create_key("orders", "orders:write").secret
    assert status(own, "POST", "/v2/orders", key, json.dumps({"account_id": own.account_id})) == 200
    assert status(own, "POST", "/v2/orders", key, json.dumps({"account_id": "acct_other"})) == 403


def test_an_imported_key_is_admitted_until_it_is_revoked(own: Stack, tmp_path: Path) -> None:
    keys = [secret() for _ in range(3)]
    # Presented before: authz remembers that it was unknown.
    assert [status(own, "GET", "/v2/pets", key) for key in keys] == [401] * 3
    file = tmp_path / "keys.csv"
    rows = [f"{digest(keys[0]).hex()},{own.account_id},first,pets:read,5,0.001,,sk_live_…{keys[0][-4:]}"]
    rows += [
        f"{b64encode(digest(keys[1])).decode()},{own.account_id},second,pets:read pets:write,,,2999-01-01T00:00:00Z,"
    ]
    file.write_text("digest,owner,name,scopes,capacity,refill_per_s,expires_at,hint\n" + "\n".join(rows[:1]) + "\n")
    assert keys_import(own, file, "--dry-run").stdout == "1 keys to import, 0 stored already\n"
    assert status(own, "GET", "/v2/pets", keys[0]) == 401
    assert keys_import(own, file).stdout == "1 keys imported, 0 stored already\n"
    # Interrupted, and run again with the rest.
    rows[1] = rows[1].replace("2999", "2099")
    file.write_text("digest,owner,name,scopes,capacity,refill_per_s,expires_at,hint\n" + "\n".join(rows) + "\n")
    assert keys_import(own, file).stdout == "1 keys imported, 1 stored already\n"
    assert keys_import(own, file).stdout == "0 keys imported, 2 stored already\n"
    assert [status(own, "GET", "/v2/pets", key) for key in keys] == [200, 200, 401]
    assert status(own, "POST", "/v2/pets", keys[0]) == 403
    assert status(own, "POST", "/v2/pets", keys[1]) == 200
    # Its own limit, of five requests.
    assert [status(own, "GET", "/v2/pets", keys[0]) for _ in range(5)][-1] == 429
    listed = authz(own, "keys", "list", own.account_id, "--json").stdout
    assert keys[0] not in listed
    (second,) = [key for key in json.loads(listed) if key["name"] == "second"]
    assert authz(own, "keys", "revoke", second["id"]).returncode == 0
    assert status(own, "GET", "/v2/pets", keys[1]) == 401


def test_a_faulty_line_stops_an_import_before_it_begins(own: Stack, tmp_path: Path) -> None:
    key = secret()
    good = {"digest": digest(key).hex(), "owner": own.account_id, "name": "good", "scopes": ["pets:read"]}
    bad: list[dict[str, Any]] = [
        {**good, "digest": digest("b").hex(), "scopes": ["nothing"]},
        {**good, "digest": digest("c").hex(), "owner": "acct_nobody"},
        {**good, "digest": digest("d").hex(), "expires_at": "2001-01-01T00:00:00Z"},
        {**good, "name": "again"},
        {**good, "digest": digest("e").hex(), "capacity": 10, "refill_per_s": 10_000_000},
        {**good, "digest": digest("f").hex(), "hint": key},
    ]
    file = tmp_path / "keys.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in [good, *bad]))
    failed = keys_import(own, file)
    assert failed.returncode == 1
    assert [line.split(":")[1] for line in failed.stderr.splitlines()] == ["2", "3", "4", "5", "6", "7"]
    assert "Traceback" not in failed.stderr
    assert status(own, "GET", "/v2/pets", key) == 401


def test_a_key_of_another_account_is_not_taken_over(own: Stack, tmp_path: Path) -> None:
    key, other = secret(), own.create_account("Other")
    line = {"digest": digest(key).hex(), "owner": own.account_id, "name": "n", "scopes": "pets:read"}
    file = tmp_path / "keys.jsonl"
    file.write_text(json.dumps(line))
    assert keys_import(own, file).returncode == 0
    file.write_text(json.dumps({**line, "owner": other}))
    failed = keys_import(own, file)
    assert (failed.returncode, "of another account" in failed.stderr) == (1, True)


def keys_file(folder: Path, **owners: str) -> Path:
    """Write a file with a key of each owner, whose digest is that of its name."""
    lines = [
        {"digest": digest(name).hex(), "owner": owner, "name": name, "scopes": ["pets:read"]}
        for name, owner in owners.items()
    ]
    file = folder / "keys.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def sign_up(stack: Stack, account_id: str, email: str) -> None:
    """Let somebody sign up in the portal without verifying the address."""
    sql = "INSERT INTO owners (account_id, email, password_hash) VALUES ($1, $2, 'x')"

    async def insert() -> None:
        connection = await asyncpg.connect(stack.postgres.url)
        await connection.execute(sql, account_id, email)
        await connection.close()

    asyncio.run(insert())


def test_owners_may_be_email_addresses_that_belong_to_one_account(own: Stack, tmp_path: Path) -> None:
    made = authz(own, "accounts", "create", "Ada", "--email", "ada@acme.example").stdout.strip()
    for name in ("Twin", "Other twin"):
        assert authz(own, "accounts", "create", name, "--email", "twin@acme.example").returncode == 0
    sign_up(own, own.create_account("Eve"), "bob@acme.example")
    file = keys_file(
        tmp_path,
        right="Ada@Acme.Example",
        nobody="carol@acme.example",
        wrong="@",
        twins="twin@acme.example",
        stranger="bob@acme.example",
    )
    refused = keys_import(own, file)
    assert (refused.returncode, refused.stderr.count("\n"), "keys.jsonl:3:" in refused.stderr) == (1, 1, True)
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if '"@"' not in line))
    for arguments, lines in (([], ["2", "3", "4"]), (["--create-accounts"], ["3", "4"])):
        refused = keys_import(own, file, *arguments)
        assert [line.split(":")[1] for line in refused.stderr.splitlines()] == lines
        assert "acme.example" not in refused.stderr
    assert keys_import(own, keys_file(tmp_path, right="Ada@Acme.Example")).returncode == 0
    assert [key["name"] for key in json.loads(authz(own, "keys", "list", made, "--json").stdout)] == ["right"]


def test_accounts_are_made_for_new_addresses_once(own: Stack, tmp_path: Path) -> None:
    file = keys_file(tmp_path, one="new@acme.example", two="NEW@acme.example", three="newer@acme.example")
    dry = keys_import(own, file, "--create-accounts", "--dry-run")
    assert dry.stdout == "2 accounts to create, 3 keys to import, 0 stored already\n"
    assert keys_import(own, file).returncode == 1
    done = keys_import(own, file, "--create-accounts")
    assert done.stdout == "2 accounts created, 3 keys imported, 0 stored already\n"
    file = keys_file(tmp_path, one="new@acme.example", four="new@acme.example")
    again = keys_import(own, file, "--create-accounts")
    assert again.stdout == "1 keys imported, 1 stored already\n"
    many = {f"many{number}": "most@acme.example" for number in range(26)}
    refused = keys_import(own, keys_file(tmp_path, **many), "--create-accounts")
    assert (refused.returncode, "more than 25 keys" in refused.stderr) == (1, True)


def test_a_policy_without_foreign_formats_imports_no_key(own: Stack, tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    line = {"digest": digest("x").hex(), "owner": own.account_id, "name": "n", "scopes": "servers:read"}
    file.write_text(json.dumps(line))
    refused = authz(own, "keys", "import", str(file), AUTHZ_POLICY_FILE=str(shipped("policies/truetick.yaml")))
    assert (refused.returncode, "keys.foreign" in refused.stderr) == (3, True)
