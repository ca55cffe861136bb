"""Do processes that share a pooler's server connections ever change what only another was asked to change?

Several processes read and write at once through PgBouncer in transaction mode, each with keys of its own to change and
the others' to read. Afterwards every key must be as its process left it, and every change must have its audit line.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from support.servers.postgres_variants import TcpPostgres, pgbouncer

from authz.adapters.postgres.directory import PostgresDirectory
from authz.adapters.postgres.keys import PostgresKeys
from authz.adapters.postgres.migrations import migrate
from authz.adapters.postgres.owners import PostgresOwners
from authz.adapters.postgres.pool import Postgres
from authz.core.accounts import Account, Actor, ApiKey, AuditEvent
from authz.core.keys import digest
from authz.core.limits import Limit

_KEYS_OF_EACH = 12
_TASKS = 6
_EVENTS = (AuditEvent.KEY_DISABLED, AuditEvent.KEY_ENABLED, AuditEvent.KEY_LIMITED)
_SHARED_CONNECTIONS = ("default_pool_size = 3",)


@dataclass(frozen=True, slots=True)
class Mixed:
    """What a run found: changes that were asked for, reads, and every difference as a line."""

    changes: int
    reads: int
    faults: list[str]


async def mixed(server_url: str, pooler_url: str, *, processes: int, seconds: float) -> Mixed:
    """Run the processes against one database, which is reached directly at `server_url`."""
    await migrate(server_url)
    async with opened(server_url) as postgres:
        for number in range(processes + 1):  # nobody changes the keys of the last
            await make_account(PostgresKeys(postgres), number)
    workers = [await started(pooler_url, number, processes, seconds) for number in range(processes)]
    outputs = await asyncio.gather(*(worker.communicate() for worker in workers))
    reports = [json.loads(output) for output, _ in outputs]
    async with opened(server_url) as postgres:
        faults = [fault async for fault in differences(postgres, reports)]
    faults += [fault for report in reports for fault in report["faults"]]
    changes = sum(len(events) for report in reports for events in report["events"].values())
    return Mixed(changes, sum(report["reads"] for report in reports), faults)


class opened:  # noqa: N801 -- used like a function
    """A pool for as long as a block runs."""

    def __init__(self, url: str) -> None:
        self._postgres = Postgres(url, deadline_s=10, pool_max=4, connect_s=10)

    async def __aenter__(self) -> Postgres:
        await self._postgres.start()
        return self._postgres

    async def __aexit__(self, *_failure: object) -> None:
        await self._postgres.close()


def key_id(account: int, number: int) -> str:
    return f"key_{account}_{number}"


def key_digest(account: int, number: int) -> bytes:
    return digest(key_id(account, number).encode())


async def make_account(keys: PostgresKeys, number: int) -> None:
    now, actor = datetime.now(UTC), Actor("setup", "local")
    await keys.add_account(Account(f"acc_{number}", "mixing", now, None), actor)
    for one in range(_KEYS_OF_EACH):
        key = ApiKey(key_id(number, one), f"acc_{number}", "key", "…", frozenset({"servers:read"}), now)
        await keys.add_key(key, key_digest(number, one), 100, actor)


async def started(url: str, number: int, processes: int, seconds: float) -> asyncio.subprocess.Process:
    arguments = ("--worker", str(number), "--processes", str(processes), "--seconds", str(seconds), "--url", url)
    command = (sys.executable, "-m", "longrun.pooler_mixing", *arguments)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)


async def differences(postgres: Postgres, reports: Sequence[dict[str, Any]]) -> AsyncIterator[str]:
    """Yield what is not as the processes report it."""
    async with postgres.transaction() as connection:
        lines = await connection.fetch("SELECT key_id, event, actor FROM audit_log WHERE actor <> 'setup' ORDER BY id")
        rows = await connection.fetch("SELECT id, disabled_at, revoked_at, capacity FROM api_keys")
    events = {key: told for report in reports for key, told in report["events"].items()}
    audited: dict[str, list[str]] = {}
    for line in lines:
        if line["actor"] != f"worker:{line['key_id'].split('_')[1]}":
            yield f"{line['actor']} changed {line['key_id']}"
        audited.setdefault(line["key_id"], []).append(line["event"])
    for row in rows:
        asked = events.get(row["id"], [])
        if audited.get(row["id"], []) != asked:
            yield f"{row['id']}: the audit log has {Counter(audited.get(row['id'], []))}, asked was {Counter(asked)}"
        switches = [event for event in asked if event != AuditEvent.KEY_LIMITED]
        is_disabled = bool(switches) and switches[-1] == AuditEvent.KEY_DISABLED
        if (row["disabled_at"] is not None) != is_disabled or row["revoked_at"] is not None:
            yield f"{row['id']} is not as it was left"
        if (row["capacity"] is not None) != (AuditEvent.KEY_LIMITED in asked):
            yield f"{row['id']} has a limit that nobody gave it, or lacks its own"


async def work(url: str, number: int, processes: int, seconds: float) -> None:
    """Read and change keys until the time is up, and print what was done as JSON."""
    events: dict[str, list[str]] = {}
    faults: list[str] = []
    ends_at_s, reads = monotonic() + seconds, 0
    chance = random.Random(number)  # noqa: S311 -- not a secret

    async with opened(url) as postgres:
        keys, directory, owners = PostgresKeys(postgres), PostgresDirectory(postgres), PostgresOwners(postgres)

        async def change(one: int) -> None:
            event = chance.choice(_EVENTS)
            limit = Limit(chance.randint(1, 100), 1.0) if event is AuditEvent.KEY_LIMITED else None
            await keys.change_key(key_id(number, one), event, Actor(f"worker:{number}", "local"), limit)
            events.setdefault(key_id(number, one), []).append(event.value)

        async def read() -> None:
            account, one = chance.randrange(processes + 1), chance.randrange(_KEYS_OF_EACH)
            wanted = key_digest(account, one)
            async with directory.hold(lambda: [wanted]) as records:
                held = records.get(wanted)
            if held is not None and held.key.key_id != key_id(account, one):
                faults.append(f"asked for {key_id(account, one)}, told of {held.key.key_id or held.key.state}")
            if (await keys.key(key_id(account, one))).account_id != f"acc_{account}":
                faults.append(f"{key_id(account, one)} of another account")
            contact = await owners.contact(f"acc_{account}")
            if contact is None:
                faults.append(f"acc_{account} is not there")

        async def run(mine: int) -> None:
            nonlocal reads
            while monotonic() < ends_at_s:
                for one in range(mine, _KEYS_OF_EACH, _TASKS):  # no two tasks change the same key
                    await change(one)
                    for _ in range(3):
                        await read()
                        reads += 1

        await asyncio.gather(*(run(mine) for mine in range(_TASKS)))
    sys.stdout.write(json.dumps({"events": events, "faults": faults, "reads": reads}))


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--worker", type=int)
    parser.add_argument("--url", default="")
    given = parser.parse_args()
    if given.worker is not None:
        await work(given.url, given.worker, given.processes, given.seconds)
        return 0
    with tempfile.TemporaryDirectory(prefix="authz-mixing-") as folder:
        server = TcpPostgres(Path(folder))
        server.start()
        try:
            where = f"host=127.0.0.1 port={server.port}"
            with pgbouncer(Path(folder), where, *_SHARED_CONNECTIONS) as url:
                found = await mixed(server.url, url, processes=given.processes, seconds=given.seconds)
        finally:
            server.stop()
    print(f"{found.changes} changes, {found.reads} reads, {len(found.faults)} foreign or lost changes")  # noqa: T201
    print("\n".join(found.faults[:20]))  # noqa: T201
    return bool(found.faults)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
