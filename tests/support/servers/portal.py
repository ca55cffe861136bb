"""`authz portal` as a process, over a Redis and a Postgres of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from support.clients.portal_browser import SECRET
from support.servers.postgres import database

from authz.adapters.postgres.migrations import migrate
from authz.demo.servers import RedisServer, Server, free_port, shipped


def portal(folder: Path, port: int, admin_port: int, **env: str) -> Server:
    environment = {
        "AUTHZ_POLICY_FILE": str(shipped("policies/truetick.yaml")),
        "AUTHZ_PORTAL_LISTEN": f"127.0.0.1:{port}",
        "AUTHZ_PORTAL_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
        "AUTHZ_PORTAL_PROXY_SECRET": SECRET,
        **env,
    }
    command = [sys.executable, "-m", "authz", "portal"]
    return Server("portal", command, folder / "portal.log", env=environment)


@dataclass(frozen=True)
class RunningPortal:
    url: str
    server: Server


@asynccontextmanager
async def running_portal(
    folder: Path, redis: RedisServer, postgres_url: str, **env: str
) -> AsyncIterator[RunningPortal]:
    """A portal that is ready."""
    port, admin_port = free_port(), free_port()
    async with database(postgres_url) as url:
        await migrate(url)
        stores = {"AUTHZ_REDIS_URL": redis.url, "AUTHZ_POSTGRES_URL": url}
        server = portal(folder, port, admin_port, **stores, **env)

        def is_ready() -> bool:
            try:
                answer: dict[str, bool] = httpx.get(f"http://127.0.0.1:{admin_port}/readyz", trust_env=False).json()
            except httpx.HTTPError:
                return False
            return all(answer.values())

        await asyncio.to_thread(server.start, is_ready)
        try:
            yield RunningPortal(f"http://127.0.0.1:{port}", server)
        finally:
            server.stop()
