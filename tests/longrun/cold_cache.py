"""How soon is a fleet of keys back after Redis lost them all, with Postgres on a slow network?

A sidecar is asked for keys at random at a steady rate. Redis is flushed, and each half second's answers are counted.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import redis
import uvloop
from bench.load.capture import ID
from bench.load.checks import Framed, steady_exchange
from support.servers.postgres_variants import TcpPostgres
from support.servers.sidecars import own_sidecar

from authz._pb.base_pb2 import HeaderMap
from authz._pb.check_pb2 import AttributeContext, CheckRequest
from authz.adapters.postgres.migrations import migrate
from authz.core.keys import ENTROPY_BYTES, KeyFormat, digest
from authz.demo.servers import RedisServer, Server, accepts, free_port
from authz.edge.check.messages import SERVICE

_SLICE_S = 0.5
_OK = frozenset({0})
FORMAT = KeyFormat("ttk_")
_PROXY = Path(__file__).parents[1] / "support" / "servers" / "delay_proxy.py"
_FILL = (
    "WITH account AS (INSERT INTO accounts (id, name, created_at) SELECT 'acc_' || n, 'cold', now() "
    "FROM generate_series(0, 99) n) "
    "INSERT INTO api_keys (id, account_id, digest, name, hint, scopes, capacity, refill_per_s, created_at) "
    "SELECT 'key_' || n, 'acc_' || n % 100, d, 'cold', '', '{servers:read}', 1000000, 1000000, now() "
    "FROM unnest($1::bytea[]) WITH ORDINALITY AS given (d, n)"
)


@dataclass(frozen=True, slots=True)
class Refill:
    """What clients saw after the flush: the share of refused checks, when the last was, and the slowest of 99 %."""

    calls: int
    refused: int
    last_refusal_s: float
    p99_ms: list[float]
    ready_s: float

    @property
    def share(self) -> float:
        """The share of the checks that were refused."""
        return self.refused / self.calls


def refill(*, keys: int, per_s: int, seconds: float, delay_ms: float, redis_delay_ms: float = 0.0) -> Refill:
    """Measure one flush."""
    chance = random.Random(5)  # noqa: S311 -- the same keys in every run
    secrets = [FORMAT.mint(chance.randbytes(ENTROPY_BYTES)) for _ in range(keys)]
    calls = [framed(secret) for secret in secrets]
    with ExitStack() as down:
        folder = Path(down.enter_context(tempfile.TemporaryDirectory(prefix="authz-cold-")))
        postgres, cache = TcpPostgres(folder), RedisServer(folder)
        for server in (postgres, cache):
            down.callback(server.stop)
            server.start()
        uvloop.run(filled(postgres.url, secrets))
        postgres_url = f"postgresql://postgres@127.0.0.1:{proxied(down, folder, postgres.port, delay_ms)}/postgres"
        redis_url = cache.url
        if redis_delay_ms:
            redis_url = f"redis://127.0.0.1:{proxied(down, folder, cache.port, redis_delay_ms)}/0"
        sidecar = down.enter_context(own_sidecar(folder, postgres_url, redis_url, AUTHZ_LOG_LEVEL="error"))
        port, ready_s = sidecar.port, sidecar.until_ready()
        steady_exchange(port, _at_random(calls, chance), seconds=1, per_s=per_s)
        with redis.Redis(port=cache.port) as client:
            client.flushall()
        total = refused = 0
        last_s, p99_ms = 0.0, list[float]()
        for number in range(round(seconds / _SLICE_S)):
            _, exchange = steady_exchange(port, _at_random(calls, chance), seconds=_SLICE_S, per_s=per_s)
            total += len(exchange.latencies_s)
            p99_ms.append(sorted(exchange.latencies_s)[int(len(exchange.latencies_s) * 0.99)] * 1000)
            if exchange.unexpected:
                refused += sum(exchange.unexpected.values())
                last_s = (number + 1) * _SLICE_S
    return Refill(total, refused, last_s, p99_ms, ready_s)


def framed(secret: str, address: str = "", codes: frozenset[int] = _OK) -> Framed:
    """Return a check of a key, of a client with an address, and the gRPC codes that it may be answered with."""
    request, headers = CheckRequest(), HeaderMap()
    headers.headers.add(key="x-api-key", raw_value=secret.encode())
    http = request.attributes.request.http
    http.method, http.path, http.header_map = "GET", "/v1/servers", headers.SerializeToString()
    peer = AttributeContext.Peer()
    peer.address.socket_address.address = address
    request.attributes.source = peer.SerializeToString()
    http.id = (ID % 0).decode()
    before, place, after = request.SerializeToString().partition(ID % 0)
    size = len(before + place + after)
    return Framed(_block(), size + 5 << 8, b"\0" + size.to_bytes(4) + before, after, codes)


def _block() -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{SERVICE}/Check",
        ":authority": "authz",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    # Literals without indexing (RFC 7541 section 6.2.2), so that the block means the same on every connection.
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )


def _at_random(calls: list[Framed], chance: random.Random) -> Iterator[Framed]:
    while True:
        yield chance.choice(calls)


async def filled(url: str, secrets: list[str]) -> None:
    """Migrate a database and insert keys with large buckets."""
    await migrate(url)
    connection = await asyncpg.connect(url)
    await connection.execute(_FILL, [digest(secret.encode()) for secret in secrets])
    await connection.close()


def proxied(down: ExitStack, folder: Path, port: int, delay_ms: float) -> int:
    """Start a proxy of its own process in front of a port; returns its port."""
    where = free_port()
    command = [sys.executable, str(_PROXY), "--port", str(where), "--to", f"127.0.0.1:{port}"]
    proxy = Server("proxy", [*command, "--delay-ms", str(delay_ms)], folder / f"proxy-{where}.log")
    down.callback(proxy.stop)
    proxy.start(lambda: accepts(where))
    return where


def main() -> int:
    """Run with the options of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--per-s", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--delay-ms", type=float, default=5)
    parser.add_argument("--redis-delay-ms", type=float, default=0)
    given = parser.parse_args()
    found = refill(
        keys=given.keys,
        per_s=given.per_s,
        seconds=given.seconds,
        delay_ms=given.delay_ms,
        redis_delay_ms=given.redis_delay_ms,
    )
    slices = " ".join(f"{latency_ms:.0f}" for latency_ms in found.p99_ms)
    sys.stdout.write(
        f"ready after {found.ready_s:.2f} s; {found.calls} checks after the flush, {found.refused} refused "
        f"({found.share:.2%}), the last within {found.last_refusal_s} s; p99 by half second, ms: {slices}\n"
    )
    return found.share >= 0.01


if __name__ == "__main__":
    sys.exit(main())
