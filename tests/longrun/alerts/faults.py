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
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg
import redis
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

_LOAD_S = 0.02
_THROTTLED = "login: {per_address: 30, per_subject: 10, wait_s: 600"
_UNTHROTTLED = "login: {per_address: 100000, per_subject: 100000, wait_s: 1"
_BUSY = "local x = 0; for i = 1, tonumber(ARGV[1]) do x = x + i end; return 1"
_SLOW_S = 0.03


class Drill:
    """A stack of two sidecars and a portal, a third sidecar with TLS, and steady traffic through Envoy."""

    def __init__(self) -> None:
        self._down = ExitStack()
        self._folder = Path(self._down.enter_context(tempfile.TemporaryDirectory(prefix="authz-drill-")))
        self._policy = self._folder / "policy.yaml"
        text = shipped("policies/truetick.yaml").read_text()
        self._policy.write_text(text.replace(_THROTTLED, _UNTHROTTLED))
        self.stack = Stack(sidecars=2, portal=True, env={"AUTHZ_POLICY_FILE": str(self._policy)})

    def __enter__(self) -> Self:
        """Start everything."""
        self.stack.start()
        self._down.callback(self.stack.stop)
        self._authority = Authority(self.stack.folder, "drill")
        self._tls = self._tls_sidecar()
        self._secret = self.stack.create_key("drill", "servers:read", limit=ROOMY).secret
        self._down.enter_context(self._repeated(lambda: self._get(self._secret)))
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

    def redis_slow(self) -> Iterator[None]:
        client = redis.Redis.from_url(self.stack.redis.url)
        rounds = _rounds_of(client)
        with self._repeated(lambda: client.eval(_BUSY, 0, rounds), pause_s=0.001):
            yield
        client.close()

    def redis_read_only(self) -> Iterator[None]:
        with redis.Redis.from_url(self.stack.redis.url) as client:
            client.replicaof("127.0.0.1", "1")
            yield
            client.replicaof("NO", "ONE")

    def postgres_stopped(self) -> Iterator[None]:
        self.stack.postgres.stop()
        with self._repeated(self._forget_keys), self._repeated(self._login, pause_s=0.5):
            yield
        self.stack.postgres.start(None)

    def postgres_slow(self) -> Iterator[None]:
        lock = "BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.3); COMMIT"
        with (
            self._repeated(self._forget_keys),
            self._repeated(lambda: asyncio.run(self._on_postgres(lock)), pause_s=0.001),
        ):
            yield

    def bad_policy(self) -> Iterator[None]:
        text = self._policy.read_text()
        self._policy.write_text(text.replace("per_key: 3", "per_key: none"))
        self.stack.sidecars[0].signal(signal.SIGHUP)
        yield
        self._policy.write_text(text)
        self.stack.sidecars[0].signal(signal.SIGHUP)

    def other_policy(self) -> Iterator[None]:
        text = self._policy.read_text()
        self._policy.write_text(text.replace("per_key: 3", "per_key: 4"))
        self.stack.sidecars[0].signal(signal.SIGHUP)
        yield
        self._policy.write_text(text)
        self.stack.sidecars[0].signal(signal.SIGHUP)

    def certificate(self) -> Iterator[None]:
        self._install(days=1)
        yield
        self._install(days=30)

    def bad_keys(self) -> Iterator[None]:
        with self._repeated(lambda: self._get(_unknown_key())):
            yield

    def probing(self) -> Iterator[None]:
        with self._repeated(lambda: send(self.stack.url, "GET", "/v1/admin/x", ("x-api-key", self._secret))):
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
                asking.enter_context(self._repeated(ask, pause_s=0.1))
            yield

    def revoked_key(self) -> Iterator[None]:
        key = self.stack.create_key("revoked", "servers:read")
        self.stack.change_key(key.key.id, AuditEvent.KEY_REVOKED)
        with self._repeated(lambda: self._get(key.secret)):
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
            with self._repeated(lambda: send(self.stack.url, "GET", path, ("x-api-key", secret)), pause_s=0.1):
                yield

    def passwords(self) -> Iterator[None]:
        with self._repeated(self._login, pause_s=0.1):
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

        with self._repeated(pause, pause_s=0.03):
            yield

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
            "AUTHZ_DRAIN_DELAY_S": "0",
        }
        command = [sys.executable, "-m", "authz", "serve"]
        server = Server("authz-tls", command, self.stack.folder / "authz-tls.log", env=env)
        server.start(lambda: _answers(f"http://{address}/readyz"))
        self._down.callback(server.stop)
        return server

    def _install(self, *, days: int) -> None:
        certificate, key = self._authority.issue("DNS:authz", days=days)
        shutil.copy(certificate, self._certificate)
        shutil.copy(key, self._key)

    @contextmanager
    def _repeated(self, work: Callable[[], object], pause_s: float = _LOAD_S) -> Iterator[None]:
        """Repeat a work on a thread, whatever it raises."""
        is_over = threading.Event()

        def run() -> None:
            while not is_over.wait(pause_s):
                with suppress(Exception):  # the stack is out of order on purpose
                    work()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join(10)


def _rounds_of(client: redis.Redis) -> int:
    """Return how many rounds of the script keep this Redis busy for `_SLOW_S`: it has no clock that moves."""
    rounds = 100_000
    started_s = time.monotonic()
    client.eval(_BUSY, 0, rounds)
    return round(rounds * _SLOW_S / (time.monotonic() - started_s))


def _unknown_key() -> str:
    return KeyFormat("ttk_").mint(secrets.token_bytes(32))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 -- our own address
            return int(answer.status) == 200
    except OSError:
        return False
