"""What the doctor says about real stores, in order and out of order."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from support.servers.postgres import database
from support.servers.redis_cluster import Cluster

from authz.adapters.postgres.migrations import migrate
from authz.cli.doctor.findings import Finding, State
from authz.cli.doctor.stores import _clock, _offset, postgres_findings, redis_findings
from authz.demo.servers import RedisServer, shipped
from authz.settings import Settings

pytestmark = [pytest.mark.server, pytest.mark.timeout(60)]


def named(found: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in found}


async def postgres(url: str) -> dict[str, Finding]:
    return named(await postgres_findings(Settings(postgres_url=SecretStr(url))))


async def redis(url: str) -> dict[str, Finding]:
    return named(await redis_findings(Settings(redis_url=SecretStr(url))))


async def test_a_schema_that_does_not_fit_is_wrong(postgres_url: str) -> None:
    async with database(postgres_url) as url:
        found = await postgres(url)
        assert found["schema"].state is State.WRONG
        assert "run authz migrate" in found["schema"].detail
        await migrate(url)
        found = await postgres(url)
        assert {finding.state for finding in found.values()} == {State.OK}
        assert abs(found["postgres clock"].facts["offset_ms"]) < 500
        assert found["postgres"].facts["connect_ms"] > 0
        connection = await asyncpg.connect(url)
        await connection.execute("INSERT INTO migrations (name, checksum) VALUES ('0999_later.sql', 'x')")
        assert (await postgres(url))["schema"].state is State.WARNING
        await connection.execute("UPDATE migrations SET checksum = 'x'")
        assert "was changed after" in (await postgres(url))["schema"].detail
        await connection.close()


async def test_a_redis_that_evicts_keys_is_wrong(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, 0, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    server.start()
    try:
        found = await redis(server.url)
    finally:
        server.stop()
    assert found["redis memory"].state is State.WRONG
    assert found["redis memory"].facts["maxmemory_policy"] == "allkeys-lru"
    assert found["redis"].state is State.OK


async def test_a_redis_that_takes_no_writes_is_wrong(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, 0, "--min-replicas-to-write", "1")
    server.start()
    try:
        found = await redis(server.url)
    finally:
        server.stop()
    assert found["redis"].state is State.WRONG
    assert "NOREPLICAS" in found["redis"].detail


async def test_each_node_of_a_cluster_is_examined(redis_cluster: Cluster) -> None:
    found = await redis_findings(Settings(redis_url=SecretStr(redis_cluster.url)))
    assert [finding.name for finding in found].count("redis clock") == 3
    assert {finding.state for finding in found} == {State.OK}


async def test_stores_that_do_not_answer_are_wrong() -> None:
    assert (await redis("redis://127.0.0.1:1/0"))["redis"].state is State.WRONG
    assert "Connect call failed" in (await redis("redis://127.0.0.1:1/0"))["redis"].detail
    assert (await postgres("postgresql://127.0.0.1:1/x"))["postgres"].state is State.WRONG


@pytest.mark.parametrize(("ahead_s", "state"), [(0.4, State.OK), (-0.4, State.OK), (2, State.WRONG), (-2, State.WRONG)])
async def test_a_clock_that_differs_is_wrong(ahead_s: float, state: State) -> None:
    async def query() -> float:
        await asyncio.sleep(0)
        return time.time() + ahead_s

    round_s, offset_s = await _clock(query, float)
    assert abs(offset_s - ahead_s) < 0.1
    assert _offset("clock", offset_s, round_s).state is state


async def test_the_command_is_right_about_a_sound_installation_and_about_one_that_is_not(
    postgres_url: str, redis_url: str
) -> None:
    async with database(postgres_url) as url:
        await migrate(url)
        sound = await asyncio.to_thread(doctor, url, redis_url)
        assert sound["ok"] is True
        assert {finding["state"] for finding in sound["findings"]} == {"ok"}
        assert {"versions", "policy", "open files", "schema", "outbox"} <= {each["name"] for each in sound["findings"]}
        (listed,) = (one for one in sound["settings"] if one["variable"] == "AUTHZ_POLICY_FILE")
        assert listed["source"] == "environment"
        alone = await asyncio.to_thread(doctor, url, redis_url, "--admin", "127.0.0.1:1")
        wrong = [finding["name"] for finding in alone["findings"] if finding["state"] == "wrong"]
        assert (alone["ok"], wrong) == (False, ["sidecar 127.0.0.1:1"])


def doctor(url: str, redis_url: str, *arguments: str) -> Any:  # noqa: ANN401 -- any JSON
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")}
    env = {"AUTHZ_POSTGRES_URL": url, "AUTHZ_REDIS_URL": redis_url}
    env["AUTHZ_POLICY_FILE"] = str(shipped("policies/truetick.yaml"))
    command = [sys.executable, "-m", "authz", "doctor", "--json", *arguments]
    done = subprocess.run(command, env=kept | env, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["ok"] else 1), done.stderr
    return found
