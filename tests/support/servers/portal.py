"""`authz portal` as a process, over a Redis and a Postgres of its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from support.clients.portal_browser import SECRET

from authz.demo.servers import Server, free_port, shipped


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


@contextmanager
def running_portal(folder: Path, redis_url: str, postgres_url: str, **env: str) -> Iterator[RunningPortal]:
    """A portal that is ready, over stores with the schema."""
    port, admin_port = free_port(), free_port()
    stores = {"AUTHZ_REDIS_URL": redis_url, "AUTHZ_POSTGRES_URL": postgres_url}
    server = portal(folder, port, admin_port, **stores, **env)

    def is_ready() -> bool:
        try:
            answer: dict[str, bool] = httpx.get(f"http://127.0.0.1:{admin_port}/readyz", trust_env=False).json()
        except httpx.HTTPError:
            return False
        return all(answer.values())

    server.start(is_ready)
    try:
        yield RunningPortal(f"http://127.0.0.1:{port}", server)
    finally:
        server.stop()
