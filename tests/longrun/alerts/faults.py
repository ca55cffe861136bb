"""The faults of the drill: each begins, yields while it lasts, and ends as an operator would end it.

Which alert each fault must raise is `drill.py`.
"""

import asyncio
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg
import redis
from longrun.alerts import process_faults
from longrun.alerts.repeated import repeated
from support.certificates import Authority
from support.clients.raw_http import send
from support.clients.sse import Stream
from support.servers.stack import ROOMY

from authz.core.accounts import AuditEvent
from authz.core.errors import NotEffectiveYet
from authz.core.keys import KeyFormat
from authz.core.limits import Limit
from authz.demo.servers import Server, free_port, shipped
from authz.demo.stack import Stack

_THROTTLED = "login: {per_address: 30, per_subject: 10, wait_s: 600"
_UNTHROTTLED = "login: {per_address: 100000, per_subject: 100000, wait_s: 1"
_LATE_S = 20
_FULL_DISK = Path("/dev/full")


class Drill:
    """A stack of two sidecars and a portal, a third sidecar with TLS, and steady traffic through Envoy.

    The second sidecar degrades without Redis and permits few connections; the log of the third is on a full disk.
    """

    def __init__(self) -> None:
        self._down = ExitStack()
        self._folder = Path(self._down.enter_context(tempfile.TemporaryDirectory(prefix="authz-drill-")))
        self._policies = [self._folder / f"policy-{number}.yaml" for number in range(2)]
        text = shipped("policies/truetick.yaml").read_text()
        for policy in self._policies:
            policy.write_text(text.replace(_THROTTLED, _UNTHROTTLED))
        second = {
            "AUTHZ_POLICY_FILE": str(self._policies[1]),
            "AUTHZ_REDIS_FAILURE": "degrade",
            "AUTHZ_CHECK_CONNECTIONS_MAX": str(process_faults.CONNECTIONS_MAX),
        }
        first = {"AUTHZ_POLICY_FILE": str(self._policies[0])}
        self.stack = Stack(sidecars=2, portal=True, env=first, env_of={1: second})

    def __enter__(self) -> Self:
        """Start everything."""
        self.stack.start()
        self._down.callback(self.stack.stop)
        self._authority = Authority(self.stack.folder, "drill")
        self._tls = self._tls_sidecar()
        self._secret = self.stack.create_key("drill", "servers:read", limit=ROOMY).secret
        self._down.enter_context(repeated(lambda: self._get(self._secret)))
        return self

    def __exit__(self, kind: type[BaseException] | None, it: BaseException | None, where: TracebackType | None) -> None:
        """Stop everything."""
        self._down.close()

    def folder(self, name: str) -> Path:
        """Create a folder of the drill."""
        made = self._folder / name
        made.mkdir()
        return made

    def targets(self) -> dict[str, str]:
        """Return what Prometheus scrapes, by job."""
        sidecars = ",".join(f"127.0.0.1:{port}" for port in self.stack.admin_ports)
        portal = self.stack.portal_admin_url.removeprefix("http://")
        return {"authz": sidecars, "authz-portal": portal, "authz-tls": f"127.0.0.1:{self._tls_port}"}

    def redis_stopped(self) -> Iterator[None]:
        self.stack.redis.stop()
        yield
        self.stack.redis.start()

    def outbox_stuck(self) -> Iterator[None]:
        key = self.stack.create_key("stuck", "servers:read")
        self.stack.redis.signal(signal.SIGSTOP)
        with suppress(NotEffectiveYet):
            self.stack.change_key(key.key.id, AuditEvent.KEY_REVOKED)
        asyncio.run(self._on_postgres("UPDATE key_outbox SET created_at = created_at - interval '60 s'"))
        yield
        self.stack.redis.signal(signal.SIGCONT)

    def changes_slow(self) -> Iterator[None]:
        """Queue a change again and again as if it had been made seconds ago."""
        key = self.stack.create_key("late", "servers:read").key.id
        late = f"SELECT id, revision, now() - interval '{_LATE_S} s' FROM api_keys WHERE id = '{key}'"  # noqa: S608 -- ours
        with repeated(lambda: asyncio.run(self._on_postgres(f"INSERT INTO key_outbox {late}")), pause_s=0.2):
            yield

    def redis_slow(self) -> Iterator[None]:
        return process_faults.redis_busy(self.stack.redis.url)

    def redis_read_only(self) -> Iterator[None]:
        with redis.Redis.from_url(self.stack.redis.url) as client:
            client.replicaof("127.0.0.1", "1")
            yield
            client.replicaof("NO", "ONE")

    def postgres_stopped(self) -> Iterator[None]:
        self.stack.postgres.stop()
        with repeated(self._forget_keys), repeated(self._login, pause_s=0.5):
            yield
        self.stack.postgres.start(None)

    def postgres_slow(self) -> Iterator[None]:
        lock = "BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.3); COMMIT"
        with (
            repeated(self._forget_keys),
            repeated(lambda: asyncio.run(self._on_postgres(lock)), pause_s=0.001),
        ):
            yield

    def bad_policy(self) -> Iterator[None]:
        return self._policy_with(0, "per_key: none")

    def other_policy(self) -> Iterator[None]:
        return self._policy_with(1, "per_key: 4")

    def certificate(self) -> Iterator[None]:
        self._install(days=1)
        yield
        self._install(days=30)

    def bad_keys(self) -> Iterator[None]:
        with repeated(lambda: self._get(_unknown_key())):
            yield

    def probing(self) -> Iterator[None]:
        with repeated(lambda: send(self.stack.url, "GET", "/v1/admin/x", ("x-api-key", self._secret))):
            yield

    def mistakes(self) -> Iterator[None]:
        """Let a client exceed its rate, lack a scope, and ask for what does not exist."""
        few = self.stack.create_key("few", "servers:read", limit=Limit(capacity=5, refill_per_s=1)).secret
        requests = (
            ("GET", "/v1/servers/s1", few),
            ("POST", "/v1/servers/s1:start", self._secret),
            ("GET", "/v1/nothing", self._secret),
            ("DELETE", "/v1/whoami", self._secret),
        )
        with ExitStack() as asking:
            for method, path, secret in requests:
                ask = partial(send, self.stack.url, method, path, ("x-api-key", secret))
                asking.enter_context(repeated(ask, pause_s=0.1))
            yield

    def revoked_key(self) -> Iterator[None]:
        key = self.stack.create_key("revoked", "servers:read")
        self.stack.change_key(key.key.id, AuditEvent.KEY_REVOKED)
        with repeated(lambda: self._get(key.secret)):
            yield

    def streams_over_cap(self) -> Iterator[None]:
        secret = self.stack.create_key("streams", "servers:read", limit=ROOMY).secret
        with ExitStack() as streams, redis.Redis.from_url(self.stack.redis.url) as client:
            for _ in range(2):
                for _ in range(3):
                    streams.enter_context(Stream(self.stack.url, secret))
                for name in client.scan_iter(f"l:{{{self.stack.account_id}}}:*"):
                    client.delete(name)
            yield

    def streams_refused(self) -> Iterator[None]:
        secret = self.stack.create_key("refused", "servers:read", limit=ROOMY).secret
        with ExitStack() as streams:
            for _ in range(3):
                streams.enter_context(Stream(self.stack.url, secret))
            path = "/v1/servers/s1/logs/stream"
            with repeated(lambda: send(self.stack.url, "GET", path, ("x-api-key", secret)), pause_s=0.1):
                yield

    def passwords(self) -> Iterator[None]:
        with repeated(self._login, pause_s=0.1):
            yield

    def sidecar_stopped(self) -> Iterator[None]:
        self.stack.sidecars[1].stop()
        yield
        self.stack.start_sidecar(1)

    def sidecar_starved(self) -> Iterator[None]:
        def pause() -> None:
            self.stack.sidecars[1].signal(signal.SIGSTOP)
            time.sleep(0.3)
            self.stack.sidecars[1].signal(signal.SIGCONT)

        with repeated(pause, pause_s=0.03):
            yield

    def connections(self) -> Iterator[None]:
        return process_faults.connections(self.stack.check_ports[1])

    def reports(self) -> Iterator[None]:
        return process_faults.reports(self.stack.check_ports[1])

    def files(self) -> Iterator[None]:
        return process_faults.files(self.stack.sidecars[1])

    def log_full(self) -> Iterator[None]:
        return process_faults.log_full(self._tls)

    def _policy_with(self, number: int, changed: str) -> Iterator[None]:
        """Change the policy file of one sidecar, which it examines by itself; the portal reads the first one."""
        policy = self._policies[number]
        text = policy.read_text()
        policy.write_text(text.replace("per_key: 3", changed))
        yield
        policy.write_text(text)

    def _get(self, secret: str) -> None:
        send(self.stack.url, "GET", "/v1/servers/s1", ("x-api-key", secret))

    def _forget_keys(self) -> None:
        """Remove the records of keys from Redis, so that they are loaded again."""
        with redis.Redis.from_url(self.stack.redis.url) as client:
            for name in client.scan_iter("k:*"):
                client.delete(name)

    def _login(self) -> None:
        body = json.dumps({"email": "nobody@example.com", "password": secrets.token_urlsafe(12)}).encode()
        send(self.stack.url, "POST", "/v1/public/login", ("content-type", "application/json"), body=body)

    async def _on_postgres(self, statement: str) -> None:
        connection = await asyncpg.connect(self.stack.postgres.url)
        await connection.execute(statement)
        await connection.close()

    def _tls_sidecar(self) -> Server:
        self._certificate, self._key = self.stack.folder / "check.crt", self.stack.folder / "check.key"
        self._install(days=30)
        self._tls_port = free_port()
        address = f"127.0.0.1:{self._tls_port}"
        env = {
            **self.stack._stores(),  # noqa: SLF001 -- the same stores as the others
            "AUTHZ_CHECK_LISTEN": f"127.0.0.1:{free_port()}",
            "AUTHZ_ADMIN_LISTEN": address,
            "AUTHZ_CHECK_CERTIFICATE_FILE": str(self._certificate),
            "AUTHZ_CHECK_KEY_FILE": str(self._key),
            "AUTHZ_POLICY_FILE": str(self._policies[0]),
            "AUTHZ_DRAIN_DELAY_S": "0",
        }
        command = [sys.executable, "-m", "authz", "serve"]
        server = Server("authz-tls", command, _FULL_DISK, env=env)
        server.start(lambda: _answers(f"http://{address}/readyz"))
        self._down.callback(server.stop)
        return server

    def _install(self, *, days: int) -> None:
        certificate, key = self._authority.issue("DNS:authz", days=days)
        shutil.copy(certificate, self._certificate)
        shutil.copy(key, self._key)


def _unknown_key() -> str:
    return KeyFormat("ttk_").mint(secrets.token_bytes(32))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 -- our own address
            return int(answer.status) == 200
    except OSError:
        return False
