"""Commands of this release with the schema of a later one: one that no longer fits says why."""

import asyncio
import os
import subprocess
import sys

import asyncpg
import pytest
from support.servers.postgres import database

from authz.adapters.postgres.migrations import migrate
from authz.demo.servers import shipped

LATER = "INSERT INTO migrations (name, checksum) VALUES ('0999_later.sql', 'x')"


def authz(url: str, redis_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = {"AUTHZ_POSTGRES_URL": url, "AUTHZ_REDIS_URL": redis_url}
    policy = {"AUTHZ_POLICY_FILE": str(shipped("policies/truetick.yaml")), "COLUMNS": "300"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")}
    command = [sys.executable, "-m", "authz", *arguments]
    return subprocess.run(command, env={**kept, **where, **policy}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE accounts RENAME COLUMN email TO mail",
        "ALTER TABLE accounts RENAME TO customers",
        "ALTER TABLE accounts ADD COLUMN region text NOT NULL",
        "ALTER TABLE accounts ADD CHECK (name = upper(name))",
    ],
)
async def test_a_command_that_no_longer_fits_names_the_newer_schema(
    postgres_url: str, redis_url: str, change: str
) -> None:
    async with database(postgres_url) as url:
        await migrate(url)
        connection = await asyncpg.connect(url)
        await connection.execute(LATER)
        await connection.execute(change)
        failed = await asyncio.to_thread(authz, url, redis_url, "accounts", "create", "Grace")
        assert failed.returncode == 1
        assert failed.stderr.count("\n") == 1, failed.stderr
        assert "the schema is newer than this release, which has no 0999_later.sql" in failed.stderr
        await connection.close()
