"""What each command shows at a terminal, in a pipe and without one, held against files in `tests/data/terminal/`.

`--write-goldens` writes the files anew: read the difference before it is committed. Ids, secrets and times are masked.
"""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest
from support.clients.golden_terminal import FEW, Goldens, Programs, every_way, programs
from support.servers.postgres import migrated_database
from typer.main import get_command

from authz.cli.app import app

UNKNOWN_KEY = "ttk_" + "0" * 49

NAMES = {
    "acct_markup0000000000": "[bold]x[/nope] :on: [link=https://evil.example]y[/link]",
    "acct_control000000000": "bell\x07 clear\x1b[2J line\nreturn\rnul-free \x9b31m del\x7f",
    "acct_emoji00000000000": "\U0001f468\u200d\U0001f469\u200d\U0001f467 family \U0001f680 \u65e5\u672c\u8a9e",
    "acct_rtl0000000000000": "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u202eevil\u202c \u2066x\u2069",
    "acct_invisible0000000": "a\u3164b\u2800c\u00add\u200be",
    "acct_long000000000000": "long-" * 18 + "end",
}
EMPTY, UNKNOWN = "acct_empty00000000000", "acct_unknown000000000"
KEYS = "acct_emoji00000000000"


def helps(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command and group."""
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from helps(inner, (*words, name))


HELP = list(helps(get_command(app)))
SHOWN = {
    "accounts-list": ["accounts", "list"],
    "accounts-list-json": ["accounts", "list", "--json"],
    "accounts-list-page": ["accounts", "list", "--limit", "2"],
    "keys-list": ["keys", "list", KEYS],
    "keys-list-json": ["keys", "list", KEYS, "--json"],
    "keys-list-empty": ["keys", "list", EMPTY],
    "keys-show": ["keys", "show", "key_markup0000000000"],
    "keys-show-control": ["keys", "show", "key_control000000000"],
    "keys-find": ["keys", "find", "key_markup0000000000"],
    "streams-list": ["streams", "list", "--account", EMPTY],
    "policy-lint": ["policy", "lint", "policies/truetick.yaml"],
    "policy-explain": ["policy", "explain", "GET", "/v1/servers"],
    "help-topic": ["help", "exit-codes"],
    "keys-reconcile": ["keys", "reconcile"],
    "migrate": ["migrate"],
}
REFUSED = {
    "no-such-command": ["kyes", "list"],
    "no-such-option": ["keys", "list", KEYS, "--jsno"],
    "no-such-subcommand": ["keys", "lits"],
    "no-argument": ["keys", "show"],
    "unknown-account": ["keys", "list", UNKNOWN],
    "unknown-account-json": ["keys", "list", UNKNOWN, "--json"],
    "unknown-key": ["keys", "show", "[/x]\x1b[2J :on: \u202e"],
    "secret-as-id": ["keys", "revoke", UNKNOWN_KEY],
    "unknown-scope": ["keys", "create", KEYS, "--name", "x", "--scope", "[/x]\U0001f680"],
    "bad-date": ["keys", "create", KEYS, "--name", "x", "--scope", "console", "--expires", "tomorrow"],
    "invisible-name": ["accounts", "create", "\u3164"],
    "bad-email": ["accounts", "create", "x", "--email", "no address"],
    "no-policy-file": ["policy", "lint", "/nope"],
    "bad-method": ["policy", "explain", "get", "/v1/servers"],
    "hostile-path": ["policy", "explain", "GET", "/v1/\x1b[2J[bold]x[/nope]/:on:\u202e"],
    "hostile-file": ["policy", "lint", "/nope/\x1b[2J[bold]x[/nope]"],
    "bad-path": ["policy", "explain", "GET", "v1/servers"],
    "unreachable-top": ["top", "127.0.0.1:1", "--once"],
    "release-unknown": ["streams", "release", "[/x]", "--account", EMPTY],
}


@pytest.fixture(scope="module")
def database_url(postgres_url: str) -> str:
    """A database with accounts and keys whose names no command would accept."""

    async def fill() -> str:
        url = await migrated_database(postgres_url, "goldens")
        session = await asyncpg.connect(url)
        for number, (account_id, name) in enumerate([*NAMES.items(), (EMPTY, "Empty")]):
            values = account_id, name, f"2026-01-0{number + 1}"
            await session.execute(
                "INSERT INTO accounts (id, name, created_at) VALUES ($1, $2, $3::text::timestamptz)", *values
            )
        for number, (account_id, name) in enumerate(NAMES.items()):
            key_id = account_id.replace("acct_", "key_")[:20]
            await session.execute(
                "INSERT INTO api_keys (id, account_id, digest, name, hint, scopes, created_at, expires_at) "
                "VALUES ($1, $2, $3, $4, 'ttk_\u2026abcd', '{console}', $5::text::timestamptz, '2100-01-01')",
                key_id,
                KEYS,
                bytes([number] * 32),
                name,
                f"2026-01-0{number + 1}",
            )
        await session.close()
        return url

    return asyncio.run(fill())


@pytest.fixture(scope="module")
def authz(database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    env = {
        "AUTHZ_POSTGRES_URL": database_url,
        "AUTHZ_REDIS_URL": redis_url,
        "AUTHZ_POLICY_FILE": "policies/truetick.yaml",
    }
    with programs("authz", tmp_path_factory.mktemp("home"), env) as running:
        yield running


@pytest.mark.parametrize("words", HELP, ids="-".join)
def test_help(goldens: Goldens, authz: Programs, words: tuple[str, ...]) -> None:
    goldens.check("-".join(["authz-help", *words]), every_way(authz, *words, "--help", without=FEW))


@pytest.mark.parametrize("name", [*SHOWN, *REFUSED])
def test_output(goldens: Goldens, authz: Programs, name: str) -> None:
    goldens.check(f"authz-{name}", every_way(authz, *(SHOWN | REFUSED)[name]))


def test_settings(goldens: Goldens, authz: Programs) -> None:
    env = {
        "AUTHZ_POSTGRES_URL": "postgresql://authz:hunter2@db.example/authz?password=hunter3",
        "AUTHZ_REDIS_URL": "rediss://:hunter4@redis.example/0",
        "AUTHZ_PORTAL_PROXY_SECRET": "hunter5" * 8,
        "AUTHZ_MAIL_URL": "smtps://authz:hunter6@mail.example",
        "AUTHZ_MAIL_FROM": "authz@api.example",
        "AUTHZ_REDIS_ULR": "redis://:hunter7@redis.example/0",
    }
    runs = every_way(authz, "settings", env=env)
    assert "hunter" not in str(runs)
    goldens.check("authz-settings", runs)
