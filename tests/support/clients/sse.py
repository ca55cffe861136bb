"""Clients of server-sent events that can end in every way, and the leases of their streams in Redis."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx
import redis

from authz.demo.stack import Stack

TARGET = "/v1/servers/s1/logs/stream?tail=1"


class Stream:
    """One stream over HTTP/1.1, on its own connection."""

    def __init__(self, url: str, secret: str, query: str = "", server: str = "s1") -> None:
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname, where.port or 80), timeout=10)
        target = TARGET.replace("s1", server) + query
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nhost: x\r\nx-api-key: {secret}\r\n\r\n".encode())
        self.received = b""
        while b"\r\n\r\n" not in self.received:
            if not self._can_read():
                self._socket.close()
                raise ConnectionError("no answer")
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        self.status = int(head.split()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, it: BaseException | None, where: TracebackType | None) -> None:
        self._socket.close()

    def _can_read(self) -> bool:
        try:
            return self.read()
        except OSError:
            return False

    def read(self) -> bool:
        """Read the next bytes; returns False at the end."""
        data = self._socket.recv(65_536)
        self.received += data
        return bool(data)

    def read_to_the_end(self) -> None:
        """Read until the stream ends or is reset."""
        with suppress(ConnectionResetError):
            while not self.received.endswith(b"\r\n0\r\n\r\n") and self.read():
                pass

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def reset(self) -> None:
        """Reset the connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class LeaseCounts:
    """The number of an account's leases in Redis, by the server's clock."""

    def __init__(self, stack: Stack) -> None:
        self._redis = redis.Redis.from_url(stack.redis.url)

    def count(self, account_id: str) -> int:
        """Count the leases that have not expired."""
        seconds, micros = self._redis.time()
        texts = self._redis.hvals(f"l:{{{account_id}}}:logs")
        return sum(int(text.split()[2]) > seconds * 1000 + micros / 1000 for text in texts)

    def wait_for(self, account_id: str, count: int, within_s: float = 10) -> float:
        """Wait until `count` leases are left; returns the waiting time in seconds."""
        return waited(lambda: self.count(account_id) == count, within_s)


def waited(is_so: Callable[[], bool], within_s: float = 10) -> float:
    started_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - started_s < within_s
        time.sleep(0.0005)
    return time.monotonic() - started_s


def counted(admin_url: str, name: str) -> int:
    """Read one figure of a sidecar's metrics."""
    text = httpx.get(f"{admin_url}/metrics", trust_env=False).text
    return int(float(next(line for line in text.splitlines() if line.startswith(name)).rpartition(" ")[2]))


def opened(stack: Stack, secret: str, within_s: float = 10) -> tuple[Stream, float]:
    """Open a stream as soon as a slot is free; returns it with the waiting time in seconds."""
    started_s = time.monotonic()
    while (stream := Stream(stack.url, secret)).status != 200:
        stream.close()
        assert time.monotonic() - started_s < within_s
    return stream, time.monotonic() - started_s


async def opened_at_once(stack: Stack, secrets: list[str], http2: bool = False) -> list[int]:  # noqa: FBT001, FBT002
    """Open a stream for each key at the same moment, and close them all once each has an answer."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=stack.url, trust_env=False, timeout=15, limits=limits, http1=not http2, http2=http2
    ) as client:
        answers = await asyncio.gather(*(_opened(client, secret) for secret in secrets))
        await asyncio.gather(*(answer.aclose() for answer in answers))
    return [answer.status_code for answer in answers]


async def _opened(client: httpx.AsyncClient, secret: str) -> httpx.Response:
    answer = await client.send(client.build_request("GET", TARGET, headers={"x-api-key": secret}), stream=True)
    if answer.status_code != 200:
        await answer.aread()
    return answer
