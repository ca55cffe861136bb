"""`authz portal` as a process: what it needs to start, that it says how it is, and that it ends cleanly."""

import asyncio
import signal
import ssl
from pathlib import Path

import httpx
import pytest
from support.certificates import MountedFiles
from support.clients.golden_terminal import commands
from support.clients.portal_browser import SECRET
from support.portal_use_cases import random_email
from support.servers.portal import portal
from support.servers.postgres import database

from authz.adapters.postgres.migrations import migrate
from authz.demo.servers import RedisServer, free_port
from authz.portal.envoy_only import ADDRESS, PROOF

THROUGH = {PROOF: SECRET, ADDRESS: "203.0.113.9"}


@pytest.mark.parametrize(
    ("env", "fault"),
    [
        ({"AUTHZ_PORTAL_PROXY_SECRET": ""}, "AUTHZ_PORTAL_PROXY_SECRET: must have 32 characters or more"),
        ({"AUTHZ_PORTAL_PROXY_SECRET": "s" * 31}, "AUTHZ_PORTAL_PROXY_SECRET: must have 32 characters or more"),
        ({"AUTHZ_BREACHED_PASSWORDS_FILE": "/none"}, "AUTHZ_BREACHED_PASSWORDS_FILE: cannot be read"),
        ({"AUTHZ_PUBLIC_URL": "http://portal.example"}, "AUTHZ_PUBLIC_URL"),
        ({"AUTHZ_POLICY_FILE": "/none.yaml"}, "/none.yaml:0:0: cannot be read"),
    ],
)
def test_what_an_operator_can_mend_is_one_line(env: dict[str, str], fault: str) -> None:
    done = commands("authz").in_pipes("portal", env={"AUTHZ_PORTAL_PROXY_SECRET": SECRET, **env})
    assert done.code == 1
    assert fault in done.err
    assert done.err.count("\n") == 1


async def test_it_starts_without_its_stores_says_so_and_ends_when_told(
    folder: Path, redis_server: RedisServer, postgres_url: str
) -> None:
    breached = folder / "breached.txt"
    breached.write_text("Correct Horse Battery\n")
    port, admin_port = free_port(), free_port()
    async with database(postgres_url) as url:
        stores = {"AUTHZ_REDIS_URL": redis_server.url, "AUTHZ_POSTGRES_URL": url}
        server = portal(
            folder, port, admin_port, **stores, AUTHZ_BREACHED_PASSWORDS_FILE=str(breached), AUTHZ_MAIL_URL="log:"
        )
        where, admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"

        def ready() -> dict[str, bool]:
            try:
                answer: dict[str, bool] = httpx.get(f"{admin}/readyz", trust_env=False).json()
            except httpx.HTTPError:
                return {}
            return answer

        server.start(lambda: bool(ready()))
        assert ready()["postgres"] is False
        while "run authz migrate" not in str(ready().get("faults")):
            await asyncio.sleep(0.02)
        await migrate(url)
        while not all(ready().values()) or "faults" in ready():
            await asyncio.sleep(0.02)
        async with httpx.AsyncClient(base_url=where, headers=THROUGH, trust_env=False) as envoy:
            for password, status in (("correct horse battery", 400), ("another horse battery", 200)):
                answer = await envoy.post("/v1/public/signup", json={"email": random_email(), "password": password})
                assert answer.status_code == status, answer.text
            metrics = (await envoy.get(f"{admin}/metrics")).text
        for line in ('signups_total{outcome="opened"} 1.0', 'signups_total{outcome="refused"} 1.0'):
            assert f"authz_portal_{line}" in metrics
        assert 'authz_store_up{store="postgres"} 1.0' in metrics
        server.signal(signal.SIGTERM)
        assert server.stop() == 0
    log = server.log.read_text()
    for event in ("listening", "postgres is unavailable", "mail", "stopped"):
        assert f'"event":"{event}"' in log
    assert "another horse battery" not in log


def test_its_admin_listener_serves_clients_of_a_ca_and_takes_a_rotated_certificate(tmp_path: Path) -> None:
    files, admin_port = MountedFiles(tmp_path), free_port()
    mounted = {"CERTIFICATE": "tls.crt", "KEY": "tls.key", "CLIENT_CA": "ca.crt"}
    nowhere = {"AUTHZ_REDIS_URL": "redis://127.0.0.1:1/0", "AUTHZ_POSTGRES_URL": "postgresql://authz@127.0.0.1:1/authz"}
    of_tls = {f"AUTHZ_PORTAL_ADMIN_{name}_FILE": str(tmp_path / file) for name, file in mounted.items()}
    server = portal(tmp_path, free_port(), admin_port, **nowhere, **of_tls)
    trusted = ssl.create_default_context(cafile=files.authority.certificate)
    trusted.load_cert_chain(*files.authority.issue("DNS:prometheus"))

    def read(path: str, context: ssl.SSLContext = trusted) -> str:
        return httpx.get(f"https://localhost:{admin_port}{path}", verify=context, trust_env=False).text

    def is_served() -> bool:
        try:
            return read("/healthz") == "ok\n"
        except httpx.HTTPError:
            return False

    def expiry() -> str:
        lines = read("/metrics").splitlines()
        return next(line for line in lines if line.startswith("authz_certificate_expiry_timestamp_seconds{"))

    server.start(is_served)
    try:
        before = expiry()
        assert 'listener="portal_admin"' in before
        anonymous = ssl.create_default_context(cafile=files.authority.certificate)
        with pytest.raises(httpx.HTTPError):
            read("/healthz", anonymous)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://localhost:{admin_port}/healthz", trust_env=False)
        files.rotate(days=2)
        assert expiry() != before
    finally:
        server.stop()
