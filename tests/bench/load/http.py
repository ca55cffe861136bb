"""Clients of Envoy that cost little: prebuilt HTTP/1.1 requests, one in flight a connection, every status verified."""

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.load.measured import Load

_LENGTH = b"content-length: "


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's bytes, and the statuses that are right for it."""

    data: bytes = field(repr=False)
    statuses: frozenset[int]


@dataclass(slots=True)
class _Run:
    """What the connections of one load share."""

    requests: Iterator[Prepared]
    until_s: float
    latencies_s: "array[float]"
    unexpected: Counter[int]


class _Client(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._rest = b""
        self._asked_s = 0.0
        self._statuses: frozenset[int] = frozenset()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # TCP gives a full transport
        self._send_next()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        head = data.find(b"\r\n\r\n")
        place = data.find(_LENGTH, 0, head)
        if head < 0 or len(data) < head + 4 + (int(data[place + 16 : data.find(b"\r", place)]) if place >= 0 else 0):
            self._rest = data
            return
        self._rest = b""
        run = self._run
        run.latencies_s.append(time.perf_counter() - self._asked_s)
        status = int(data[9:12])
        if status not in self._statuses:
            run.unexpected[status] += 1
        self._send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("Envoy closed the connection"))

    def _send_next(self) -> None:
        now_s = time.perf_counter()
        request = next(self._run.requests, None) if now_s < self._run.until_s else None
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._statuses = request.statuses
        self._asked_s = now_s
        self._transport.write(request.data)


async def http_load(
    url: str, requests: Iterator[Prepared], *, seconds: float, connections: int, address: str = "127.0.0.1"
) -> Load:
    """Send `requests` to a port of this machine for so many seconds, or until there are no more; from `address`."""
    port = int(url.rpartition(":")[2])
    started_s = time.perf_counter()
    run = _Run(requests, started_s + seconds, array("d"), Counter())
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Client(run), "127.0.0.1", port, local_addr=(address, 0))
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    return Load.of(time.perf_counter() - started_s, run.latencies_s, run.unexpected)
