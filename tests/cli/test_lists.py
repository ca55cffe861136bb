"""Lists of an installation with more accounts than a page has."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest
from support.clients.golden_terminal import Commands, programs
from support.servers.postgres import migrated_database

LAST = "acct_0250"


async def filled(postgres_url: str) -> str:
    """Return a database with 250 accounts."""
    url = await migrated_database(postgres_url, "lists")
    session = await asyncpg.connect(url)
    await session.execute(
        "INSERT INTO accounts (id, name, created_at) SELECT 'acct_' || lpad(number::text, 4, '0'), 'x', "
        "timestamptz '2026-01-01' + number * interval '1 s' FROM generate_series(1, 250) number"
    )
    await session.close()
    return url


@pytest.fixture(scope="module")
def authz(postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    url = asyncio.run(filled(postgres_url))
    env = {"AUTHZ_POSTGRES_URL": url, "AUTHZ_REDIS_URL": redis_url, "AUTHZ_POLICY_FILE": "policies/truetick.yaml"}
    with programs("authz", tmp_path_factory.mktemp("home"), env) as running:
        yield running.normal


@pytest.mark.parametrize(
    "command", [("keys", "list", LAST), ("keys", "list", LAST, "--live"), ("streams", "list", "--account", LAST)]
)
def test_an_account_beyond_the_first_page_is_known(authz: Commands, command: tuple[str, ...]) -> None:
    listed = authz.in_pipes(*command)
    assert (listed.code, listed.out, listed.err) == (0, "", "")


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (("accounts", "list", "--after", "acct_none"), "there is no account acct_none"),
        (("keys", "list", LAST, "--after", "key_none"), "there is no key key_none"),
        (("keys", "list", "acct_none", "--live"), "there is no account acct_none"),
        (("accounts", "suspend", "acct_none"), "there is no account acct_none"),
    ],
)
def test_a_page_after_an_unknown_row_is_refused(authz: Commands, command: tuple[str, ...], refusal: str) -> None:
    refused = authz.in_pipes(*command)
    assert (refused.code, refused.err) == (3, f"refused: {refusal}\n")


def test_the_page_after_the_last_row_is_empty(authz: Commands) -> None:
    last = authz.in_pipes("accounts", "list", "--after", LAST)
    assert (last.code, last.out, last.err) == (0, "", "")
