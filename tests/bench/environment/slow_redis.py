"""A proxy to Redis that delays replies at random, sometimes beyond a check's deadline, and a task that deletes keys.

The checks that run on it are in `crosstalk.py`.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from redis.asyncio import Redis
from support.stream_server import aborted, stream_server

_DELAY_S = 0.001
_STALL_S = 0.07
"""Longer than the 50 ms that authz waits for an answer by default."""

_STALL_SHARE = 0.003
_FORGET_EVERY_S = 0.02
_READ_BYTES = 65_536


@asynccontextmanager
async def slowed(url: str, chance: random.Random) -> AsyncIterator[str]:
    """Yield the URL of a proxy that delays every reply."""
    where = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            await asyncio.gather(_copy(reader, redis_writer), _copy(redis_reader, writer, chance))
        finally:
            await aborted([redis_writer])

    async with stream_server(serve) as port:
        yield where._replace(netloc=f"127.0.0.1:{port}").geturl()


@asynccontextmanager
async def forgetful(url: str) -> AsyncIterator[None]:
    """Delete a key at random every few milliseconds, which sends its next check to Postgres."""

    # Not cancelled but asked to end: on Python 3.11 redis-py may lose a cancellation.
    is_over = asyncio.Event()

    async def forget() -> None:
        async with Redis.from_url(url) as redis:
            while not is_over.is_set():
                key = await redis.randomkey()
                if key is not None:
                    await redis.delete(key)
                await asyncio.sleep(_FORGET_EVERY_S)

    task = asyncio.get_running_loop().create_task(forget())
    try:
        yield
    finally:
        is_over.set()
        await task


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random | None = None
) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_READ_BYTES):
            if chance is not None:
                await asyncio.sleep(_STALL_S if chance.random() < _STALL_SHARE else chance.expovariate(1 / _DELAY_S))
            writer.write(data)
    writer.close()
