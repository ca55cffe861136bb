"""Stores that are slow or locked for a long time: `make slow-stores` (DELAY_S=60, LOCK_S=30).

A sidecar over a slow network must become ready and stay so, and its log must name the setting where it cannot. A table
that is locked under a flood of unknown keys must not take more connections than the pool may, and service must return.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import asyncpg
import uvloop
from bench.load.checks import Framed, steady_exchange
from longrun.cold_cache import FORMAT, filled, framed, proxied
from support.servers.postgres_variants import TcpPostgres
from support.servers.sidecars import OwnSidecar, own_sidecar

from authz.core.keys import ENTROPY_BYTES
from authz.demo.servers import RedisServer

POOL_MAX = 4
_PER_S = 100
_FLOOD_PER_S = 200
_PATIENT = {"AUTHZ_REDIS_DEADLINE_S": "0.3", "AUTHZ_POSTGRES_DEADLINE_S": "2"}
_DENIED = frozenset({0, 7, 8, 14, 16})
_BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND application_name = 'authz'"
)


@dataclass(slots=True)
class Seen:
    """What a slow network showed: seconds until ready, checks and refusals, readiness by document, and warnings."""

    ready_s: float
    checks: int = 0
    refused: int = 0
    states: list[Any] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Locked:
    """What a locked table showed: the most connections of the sidecar, and seconds until a missing key was served."""

    connections: int
    back_s: float


@contextmanager
def _stores(keys: int) -> Iterator[tuple[ExitStack, Path, TcpPostgres, RedisServer, list[str]]]:
    with ExitStack() as down:
        folder = Path(down.enter_context(tempfile.TemporaryDirectory(prefix="authz-slow-")))
        postgres, cache = TcpPostgres(folder), RedisServer(folder)
        for server in (postgres, cache):
            down.callback(server.stop)
            server.start()
        secrets = [FORMAT.mint(os.urandom(ENTROPY_BYTES)) for _ in range(keys)]
        uvloop.run(filled(postgres.url, secrets))
        yield down, folder, postgres, cache, secrets


def slow_network(*, delay_ms: float, seconds: float, keys: int = 20, env: dict[str, str] | None = None) -> Seen:
    """Put a round trip of `delay_ms` in front of both stores, and ask for keys at a steady rate."""
    with _stores(keys) as (down, folder, postgres, cache, secrets):
        postgres_url = f"postgresql://postgres@127.0.0.1:{proxied(down, folder, postgres.port, delay_ms)}/postgres"
        redis_url = f"redis://127.0.0.1:{proxied(down, folder, cache.port, delay_ms)}/0"
        sidecar = down.enter_context(own_sidecar(folder, postgres_url, redis_url, **(env or {})))
        seen = Seen(sidecar.until_ready())
        calls = [framed(secret) for secret in secrets]
        steady_exchange(sidecar.port, _in_turn(calls), seconds=1, per_s=2 * keys)  # the keys are loaded
        watching = Thread(target=_watch, args=(sidecar, seen, seconds))
        watching.start()
        _, exchange = steady_exchange(sidecar.port, _in_turn(calls), seconds=seconds, per_s=_PER_S)
        watching.join()
        seen.checks, seen.refused = len(exchange.latencies_s), sum(exchange.unexpected.values())
        seen.warnings = sidecar.warnings()
    return seen


def locked_table(*, seconds: float) -> Locked:
    """Lock `api_keys` under a flood of unknown keys; then serve a key that was never loaded."""
    with _stores(1) as (down, folder, postgres, cache, (secret,)):
        env = {"AUTHZ_POSTGRES_POOL_MAX": str(POOL_MAX)}
        sidecar = down.enter_context(own_sidecar(folder, postgres.url, cache.url, **env))
        sidecar.until_ready()
        flood = Thread(target=steady_exchange, args=(sidecar.port, _unknown()), kwargs=_rate(seconds))
        most = uvloop.run(_locked(postgres.url, seconds, flood))
        started_s = monotonic()
        while _refusals(sidecar, secret):
            assert monotonic() < started_s + 30, sidecar.server.log_end()
            sleep(0.02)
        back_s = monotonic() - started_s
        flood.join()
    return Locked(most, back_s)


async def _locked(url: str, seconds: float, flood: Thread) -> int:
    locker, watcher = await asyncpg.connect(url), await asyncpg.connect(url)
    most, ends_at_s = 0, monotonic() + seconds
    async with locker.transaction():
        await locker.execute("LOCK TABLE api_keys")
        flood.start()
        while monotonic() < ends_at_s:
            most = max(most, await watcher.fetchval(_BACKENDS))
            await asyncio.sleep(0.1)
    await locker.close()
    await watcher.close()
    return most


def _rate(seconds: float) -> dict[str, float]:
    return {"seconds": seconds + 1, "per_s": _FLOOD_PER_S}  # it goes on after the lock


def _watch(sidecar: OwnSidecar, seen: Seen, seconds: float) -> None:
    ends_at_s = monotonic() + seconds
    while monotonic() < ends_at_s:
        state = sidecar.readiness()
        if not seen.states or seen.states[-1] != state:
            seen.states.append(state)
        sleep(0.1)


def _refusals(sidecar: OwnSidecar, secret: str) -> int:
    _, exchange = steady_exchange(sidecar.port, iter([framed(secret)]), seconds=1, per_s=1)
    return sum(exchange.unexpected.values())


def _unknown() -> Iterator[Framed]:
    """Yield checks of keys that do not exist, each of another address."""
    number = 0
    while True:
        number += 1
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        yield framed(FORMAT.mint(os.urandom(ENTROPY_BYTES)), address, _DENIED)


def _in_turn(calls: list[Framed]) -> Iterator[Framed]:
    while True:
        yield from calls


def main() -> int:
    """Run with the options of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-s", type=float, default=60)
    parser.add_argument("--lock-s", type=float, default=30)
    given = parser.parse_args()
    slow = slow_network(delay_ms=20, seconds=given.delay_s)
    late = slow_network(delay_ms=100, seconds=5)
    patient = slow_network(delay_ms=100, seconds=5, env=_PATIENT)
    locked = locked_table(seconds=given.lock_s)
    sys.stdout.write(
        f"20 ms: ready after {slow.ready_s:.2f} s; {slow.checks} checks in {given.delay_s:g} s, "
        f"{slow.refused} refused; {len(slow.states)} state, {len(slow.warnings)} warnings\n"
        f"100 ms: ready after {late.ready_s:.2f} s; {late.checks} checks, {late.refused} refused; the log:\n"
    )
    for line in late.warnings[:5]:
        sys.stdout.write(f"  {line['event']}: {line.get('error', '')}\n")
    sys.stdout.write(
        f"100 ms with {_PATIENT}: ready after {patient.ready_s:.2f} s; "
        f"{patient.checks} checks, {patient.refused} refused\n"
        f"api_keys locked for {given.lock_s:g} s: {locked.connections} connections of {POOL_MAX}; "
        f"a missing key served {locked.back_s:.2f} s after it\n"
    )
    failed = (
        slow.ready_s > 2
        or len(slow.states) > 1
        or slow.warnings
        or not late.warnings
        or patient.refused > patient.checks * 0.02
    )
    return bool(failed or locked.connections > POOL_MAX or locked.back_s > 2)


if __name__ == "__main__":
    sys.exit(main())
