"""A role's password is rotated under a pool whose URL is in a file: service goes on without a restart."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
from support.servers.postgres import Opened
from support.servers.postgres_variants import TcpPostgres

from authz.adapters.postgres.pool import Postgres
from authz.core.errors import StoreUnavailable
from authz.settings import Settings

WITHIN_S = 5


async def works(postgres: Postgres) -> None:
    async with postgres.transaction() as session:
        assert await session.fetchval("SELECT current_user") == "rotated"


async def test_a_rotated_password_needs_no_restart(
    tcp_server: TcpPostgres, empty_url: str, opened: Opened, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admin = await asyncpg.connect(empty_url)
    await admin.execute("CREATE ROLE rotated LOGIN PASSWORD 'former-1'")
    tcp_server.require_password("rotated")
    file = folder / "postgres-url"

    def write(password: str) -> None:
        file.write_text(empty_url.replace("//postgres@", f"//rotated:{password}@"))

    async def rotate(password: str) -> None:
        await admin.execute(f"ALTER ROLE rotated PASSWORD '{password}'")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotated'")

    try:
        write("former-1")
        postgres = await opened(Settings(postgres_url_file=file).reader("postgres_url"), deadline_s=1)
        await works(postgres)
        await rotate("later-2")
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await works(postgres)
        write("later-2")
        await until_it_works(postgres)
        write("last-3")
        await rotate("last-3")
        await until_it_works(postgres)
    finally:
        await admin.execute("DROP OWNED BY rotated; DROP ROLE rotated")
        await admin.close()
    assert not any(password in caplog.text for password in ("former-1", "later-2", "last-3"))


async def until_it_works(postgres: Postgres) -> None:
    """Retry as the sidecar's probe does."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return await works(postgres)
            except StoreUnavailable:
                await asyncio.sleep(0.05)
