"""What the doctor finds in Redis and Postgres: times, clocks, memory, schema, and pending changes.

Only reads. A store that does not answer within some seconds is a finding, not an error.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from authz.adapters.clock_skew import SKEW_MAX_S
from authz.adapters.postgres.connecting import Connector
from authz.adapters.postgres.failures import FAILURES, description
from authz.adapters.postgres.keys import outbox_of
from authz.adapters.postgres.migrations import schema_state
from authz.adapters.postgres.session import Session
from authz.adapters.redis.connection.cluster import RedisCluster
from authz.adapters.redis.connection.data_mark import KEY, eviction_policy
from authz.adapters.redis.connection.epoch import info_fields
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.store import redis_store
from authz.cli.doctor.findings import Finding, State, judged, ms
from authz.core.errors import StoreUnavailable
from authz.settings import Settings

_DEADLINE_S = 5.0
_OUTBOX_STUCK_S = 60.0
_ROUNDS = 5
_NODES_MAX = 64


async def redis_findings(settings: Settings) -> list[Finding]:
    """Return whether Redis answers, how soon, its clock, and whether it loses keys; for each primary of a cluster."""
    started_s = time.perf_counter()
    store = redis_store(
        settings.reader("redis_url"),
        deadline_s=_DEADLINE_S,
        in_flight_max=100,
        negative_ttl_s=1,
        connect_s=_DEADLINE_S,
    )
    store.link.start()
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await store.link.reached.wait()
        connected_s = time.perf_counter() - started_s
        if isinstance(store.link, RedisLink):  # writes nothing, and is refused like every write
            await store.link.ask("SETRANGE", KEY, "0", "")
        links = _links(store.link)
        return [finding for link in links for finding in await _of_server(link, connected_s)]
    except (StoreUnavailable, TimeoutError) as error:
        detail = str(error) or store.link.complaint or f"no connection within {_DEADLINE_S:g} s"
        return [Finding("redis", State.WRONG, detail)]
    finally:
        await store.link.close()


async def postgres_findings(settings: Settings) -> list[Finding]:
    """Return whether Postgres answers, how soon, its clock, its schema, and the changes that are not effective."""
    connector = Connector(settings.reader("postgres_url"), connect_s=settings.postgres_connect_s)
    started_s = time.perf_counter()
    try:
        session = await connector.connect()
    except StoreUnavailable as error:
        return [Finding("postgres", State.WRONG, str(error))]
    connected_s = time.perf_counter() - started_s
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await session.begin(_DEADLINE_S)
            return [*await _of_postgres(session, connected_s), *await _of_schema(session)]
    except FAILURES as error:
        return [Finding("postgres", State.WRONG, description(error))]
    finally:
        session.terminate()


def _links(link: RedisLink | RedisCluster) -> list[RedisLink]:
    return [link] if isinstance(link, RedisLink) else link.links[:_NODES_MAX]


async def _of_server(link: RedisLink, connected_s: float) -> list[Finding]:
    server, memory = await link.ask("INFO", "server"), await link.ask("INFO", "memory")
    rounds_s, offset_s = await _clock(lambda: link.ask("TIME"), _redis_time_s)
    replication = info_fields(await link.ask("INFO", "replication"))
    fields = info_fields(server) | info_fields(memory)
    kind = "valkey" if "valkey_version" in fields else "redis"
    facts: dict[str, Any] = {
        "server": f"{kind} {fields.get(f'{kind}_version', 'unknown').strip()}",
        "connect_ms": ms(connected_s),
        "round_trip_ms": ms(rounds_s),
        "role": replication.get("role", "unknown").strip(),
    }
    detail = f"{facts['server']}, connected in {facts['connect_ms']} ms, round trip {facts['round_trip_ms']} ms"
    policy, limit = fields.get("maxmemory_policy", "unknown").strip(), fields.get("maxmemory", "0").strip()
    used = fields.get("used_memory", "0").strip()
    fault = "keys are evicted: set maxmemory-policy to noeviction" if eviction_policy(memory) else ""
    memory_facts = {"maxmemory_policy": policy, "maxmemory_bytes": int(limit), "used_bytes": int(used)}
    return [
        judged("redis", "" if facts["role"] == "master" else "not a primary", detail, facts),
        _offset("redis clock", offset_s, rounds_s),
        judged("redis memory", fault, f"maxmemory-policy {policy}, {used} of {limit} bytes", memory_facts),
    ]


async def _of_postgres(session: Session, connected_s: float) -> list[Finding]:
    version = await session.fetchval("SELECT current_setting('server_version')")
    rounds_s, offset_s = await _clock(
        lambda: session.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"), float
    )
    facts = {"server": version, "connect_ms": ms(connected_s), "round_trip_ms": ms(rounds_s)}
    detail = f"{version}, connected in {facts['connect_ms']} ms, round trip {facts['round_trip_ms']} ms"
    return [Finding("postgres", State.OK, detail, facts), _offset("postgres clock", offset_s, rounds_s)]


async def _of_schema(session: Session) -> list[Finding]:
    schema = await schema_state(session)
    facts: dict[str, Any] = {"version": schema.version, "missing": schema.missing, "changed": schema.changed}
    fault = ""
    if schema.missing:
        fault = f"{len(schema.missing)} migrations are missing: run authz migrate"
    elif schema.changed:
        fault = f"{schema.changed[0]} was changed after it was applied"
    found = judged("schema", fault, f"version {schema.version or 'none'}", facts)
    if schema.newer and not fault:
        text = f"newer than this release: {schema.newer[-1]}"
        found = Finding("schema", State.WARNING, text, facts | {"newer": schema.newer})
    if schema.missing:
        return [found]
    count, oldest_s = await outbox_of(session)
    return [found, outbox(count, oldest_s)]


def outbox(entries: int, oldest_s: float) -> Finding:
    """Return what a number of pending changes, and the age of the oldest, mean."""
    fault = "changes do not become effective" if entries and oldest_s >= _OUTBOX_STUCK_S else ""
    facts = {"entries": entries, "oldest_s": round(oldest_s, 1)}
    return judged("outbox", fault, f"{entries} pending, the oldest for {facts['oldest_s']:g} s", facts)


def _offset(name: str, offset_s: float, round_s: float) -> Finding:
    fault = f"differs by more than {SKEW_MAX_S:g} s" if abs(offset_s) - round_s / 2 > SKEW_MAX_S else ""
    facts = {"offset_ms": ms(offset_s), "uncertain_ms": ms(round_s / 2)}
    return judged(name, fault, f"{facts['offset_ms']:+g} ms ± {facts['uncertain_ms']:g} ms", facts)


async def _clock(query: Callable[[], Awaitable[Any]], read: Callable[[Any], float]) -> tuple[float, float]:
    """Return the shortest of some round trips, and by how much the server's clock was ahead of ours in it."""
    samples = []
    for _ in range(_ROUNDS):
        asked_s, started_s = time.time(), time.perf_counter()
        server_s = read(await query())
        round_s = time.perf_counter() - started_s
        samples.append((round_s, server_s - asked_s - round_s / 2))
    return min(samples)


def _redis_time_s(reply: Any) -> float:  # noqa: ANN401 -- any reply
    return int(reply[0]) + int(reply[1]) / 1_000_000
