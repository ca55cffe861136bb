"""The servers of the demo and of the end-to-end tests, started in order and stopped in reverse.

The output for people is `run.py` and `tour.py`.
"""

import asyncio
import json
import secrets
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError, URLError

from pydantic import SecretStr

from authz.adapters.postgres.migrations import migrate
from authz.cli.session import open_admin
from authz.core.accounts import Actor, AuditEvent, NewApiKey
from authz.core.limits import Limit
from authz.demo.envoy import EnvoyServer
from authz.demo.own_api import OwnApi
from authz.demo.servers import PostgresServer, RedisServer, Server, free_port, shipped
from authz.service.keys.admin import KeyAdmin, KeyRequest
from authz.settings import Settings

ACTOR = Actor("demo", "local")
_UNAUTHORIZED = 401
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy of the environment is not for loopback
_UNLIKELY = "/-authz-demo-/-no-api-has-this-/-path-"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DemoOwner:
    """The owner of the demo account."""

    email: str
    password: str = field(repr=False)


class Stack:
    """Redis, Postgres, sidecars, a backend and Envoy on this machine, in a temporary folder.

    `port` is Envoy's, 0 for a free one. `env` sets further `AUTHZ_*` variables of the sidecars and the portal, and
    `env_of` those of single sidecars by number. With `on_grpc` Envoy uses the grpcio listener instead of the check
    listener. Without `portal` the backend receives the requests for the portal. With a `redis_url` the stack starts no
    Redis. `heartbeat_s` is how often Envoy reports open streams. With an `own` API, its policy and backend take the
    place of the samples.
    """

    def __init__(  # noqa: PLR0913 -- each part of a stack may differ
        self,
        *,
        port: int = 0,
        sidecars: int = 1,
        env: dict[str, str] | None = None,
        env_of: Mapping[int, dict[str, str]] | None = None,
        ping_s: float = 15,
        on_grpc: bool = False,
        portal: bool = False,
        redis_url: str = "",
        heartbeat_s: float = 5,
        own: OwnApi | None = None,
    ) -> None:
        self._down = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="authz-"))
        self._down.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.redis = RedisServer(self.folder)
        self.postgres = PostgresServer(self.folder)
        self.settings = Settings(
            policy_file=own.policy_file if own else shipped("policies/truetick.yaml"),
            redis_url=SecretStr(redis_url or self.redis.socket_url),
            postgres_url=SecretStr(self.postgres.url),
        )
        self.check_ports = [free_port() for _ in range(sidecars)]
        self.grpc_ports = [free_port() for _ in range(sidecars)]
        self.admin_ports = [free_port() for _ in range(sidecars)]
        heartbeat = {"AUTHZ_STREAM_HEARTBEAT_S": str(heartbeat_s)}
        shared, single = heartbeat | (env or {}), env_of or {}
        self.sidecars = [self._sidecar(number, shared | single.get(number, {})) for number in range(sidecars)]
        backend_port = free_port()
        portal_port = free_port() if portal else backend_port
        portal_secret = secrets.token_urlsafe(32)
        command = [sys.executable, "-m", "authz.demo.backend", "--port", str(backend_port), "--ping-s", str(ping_s)]
        self.backend = Server("backend", command, self.folder / "backend.log")
        self.envoy = EnvoyServer(
            self.folder,
            port=port or free_port(),
            authz_ports=self.grpc_ports if on_grpc else self.check_ports,
            backend_port=backend_port,
            portal_port=portal_port,
            portal_secret=portal_secret,
            heartbeat_s=heartbeat_s,
            own=own,
        )
        self._own = own
        self.portal_url = f"http://127.0.0.1:{portal_port}"
        self.portal_admin_url = f"http://127.0.0.1:{free_port()}"
        self.portal = self._portal(portal_secret, env or {}) if portal else None
        self.owner = DemoOwner("ada@example.com", secrets.token_urlsafe(12)) if portal else None
        self.backend_url = f"http://127.0.0.1:{backend_port}"
        self.account_id = ""

    @property
    def url(self) -> str:
        """Return the URL of Envoy."""
        return self.envoy.url

    @property
    def admin_url(self) -> str:
        """Return the admin URL of the first sidecar."""
        return f"http://127.0.0.1:{self.admin_ports[0]}"

    @property
    def admin_urls(self) -> list[str]:
        """Return the admin URL of each sidecar."""
        return [f"http://127.0.0.1:{port}" for port in self.admin_ports]

    @property
    def pids(self) -> dict[str, int]:
        """Return the process id of each server, by name."""
        backend = self.backend if self._own is None else None
        servers = (self.redis, self.postgres, *self.sidecars, self.portal, backend, self.envoy)
        return {server.name: server.pid for server in servers if server is not None}

    def start(self, report: Callable[[str], None] = lambda _step: None) -> None:
        """Start all servers; after a failure, all are stopped."""
        try:
            self._start(report)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all servers and remove the folder."""
        self._down.close()

    def create_key(self, name: str, *scopes: str, limit: Limit | None = None, account_id: str = "") -> NewApiKey:
        """Create a key for the account of the stack, or another."""
        request = KeyRequest(account_id or self.account_id, name, frozenset(scopes), limit)
        return self.administer(lambda admin: admin.create_key(request, ACTOR))

    def create_account(self, name: str) -> str:
        """Create another account and return its id."""
        return self.administer(lambda admin: admin.create_account(name, None, ACTOR)).id

    def change_key(self, key_id: str, event: AuditEvent) -> None:
        """Revoke, disable or enable a key; effective when this returns."""
        self.administer(lambda admin: admin.change_key(key_id, event, ACTOR))

    def change_account(self, account_id: str, event: AuditEvent) -> None:
        """Suspend or reinstate an account; effective when this returns."""
        self.administer(lambda admin: admin.change_account(account_id, event, ACTOR))

    def administer(self, use: Callable[[KeyAdmin], Awaitable[T]]) -> T:
        """Run one use case of keys, as an operator's command does."""

        async def session() -> T:
            async with open_admin(self.settings) as admin:
                return await use(admin)

        return asyncio.run(session())

    def start_sidecar(self, number: int) -> None:
        """Start one sidecar and wait until it is ready; also after a stop."""
        self.sidecars[number].start(_is_ready(self.admin_urls[number]))

    def start_envoy(self) -> None:
        """Start Envoy and wait until it responds; also after a stop."""
        self.envoy.start(self._answers)

    def _start(self, report: Callable[[str], None]) -> None:
        report("the stores")
        has_redis = self.settings.redis_url.get_secret_value() == self.redis.socket_url
        self._together((self.postgres, self.postgres.start), *[(self.redis, self.redis.start)] * has_redis)
        report("the schema")
        asyncio.run(migrate(self.postgres.url))
        report("authz" if self.portal is None else "authz and the portal")
        starts = [(sidecar, partial(self.start_sidecar, number)) for number, sidecar in enumerate(self.sidecars)]
        if self.portal is not None:
            starts.append((self.portal, partial(self.portal.start, _is_ready(self.portal_admin_url))))
        if self._own is None:
            is_up = partial(self.backend.start, lambda: _status(self.backend_url) == 200)  # noqa: PLR2004 -- HTTP
            starts.append((self.backend, is_up))
        self._together(*starts)
        report("Envoy")
        self._together((self.envoy, self.start_envoy))
        report("a first account")
        self.account_id = self._signed_up(self.owner) if self.owner else self.create_account("Demo")

    def _together(self, *starts: tuple[Server, Callable[[], None]]) -> None:
        """Start servers side by side, and wait until all of them are ready."""
        for server, _ in starts:
            self._down.callback(server.stop)
        with ThreadPoolExecutor(len(starts)) as pool:
            try:
                for started in [pool.submit(start) for _, start in starts]:
                    started.result()
            except BaseException:
                for server, _ in starts:  # so that nobody waits for those that may never be ready
                    server.stop()
                raise

    def _answers(self) -> bool:
        # Without a key, authz refuses: the whole path works, and no token is spent.
        return _status(f"{self.url}{'/v1/whoami' if self._own is None else _UNLIKELY}") == _UNAUTHORIZED

    def _signed_up(self, owner: DemoOwner) -> str:
        body = json.dumps({"email": owner.email, "password": owner.password}).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/public/signup", body, headers)  # noqa: S310 -- our own address
        with _DIRECT.open(request, timeout=10) as answer:
            return str(json.load(answer)["account_id"])

    def _portal(self, secret: str, env: dict[str, str]) -> Server:
        environment = {
            **self._stores(),
            "AUTHZ_PORTAL_LISTEN": self.portal_url.removeprefix("http://"),
            "AUTHZ_PORTAL_ADMIN_LISTEN": self.portal_admin_url.removeprefix("http://"),
            "AUTHZ_PORTAL_PROXY_SECRET": secret,
            "AUTHZ_PUBLIC_URL": self.url,
            "AUTHZ_MAIL_URL": "log:",
            **env,
        }
        command = [sys.executable, "-m", "authz", "portal"]
        return Server("portal", command, self.folder / "portal.log", env=environment)

    def _stores(self) -> dict[str, str]:
        return {
            "AUTHZ_POLICY_FILE": str(self.settings.policy_file),
            "AUTHZ_REDIS_URL": self.settings.redis_url.get_secret_value(),
            "AUTHZ_POSTGRES_URL": self.postgres.url,
        }

    def _sidecar(self, number: int, env: dict[str, str]) -> Server:
        environment = {
            **self._stores(),
            "AUTHZ_CHECK_LISTEN": f"127.0.0.1:{self.check_ports[number]}",
            "AUTHZ_GRPC_LISTEN": f"127.0.0.1:{self.grpc_ports[number]}",
            "AUTHZ_ADMIN_LISTEN": f"127.0.0.1:{self.admin_ports[number]}",
            "AUTHZ_DRAIN_DELAY_S": "0",
            **env,
        }
        name = "authz" if number == 0 else f"authz-{number + 1}"
        return SidecarServer(name, environment, self.folder)


class SidecarServer(Server):
    """A sidecar as a child process, from this installation."""

    def __init__(self, name: str, environment: dict[str, str], folder: Path) -> None:
        super().__init__(name, [sys.executable, "-m", "authz", "serve"], folder / f"{name}.log", env=environment)


def _is_ready(admin_url: str) -> Callable[[], bool]:
    return lambda: _status(f"{admin_url}/readyz") == 200  # noqa: PLR2004 -- HTTP


def _status(url: str) -> int:
    try:
        with _DIRECT.open(url, timeout=1) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except (URLError, OSError):
        return 0
