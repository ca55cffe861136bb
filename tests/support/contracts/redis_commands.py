"""Commands over a link, and waits for its connection."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import hiredis

from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.connection.url import Source

ECHO = Script(b"return ARGV[1]")
DEADLINE_S = 0.05
IN_FLIGHT_MAX = 2000


def encode_command(*words: bytes | str) -> bytes:
    command: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub asks for a tuple of one
    return command


def send(link: RedisLink, *words: bytes | str) -> asyncio.Future[Any]:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    link.submit(encode_command(*words), answer.set_result)
    return answer


@asynccontextmanager
async def started_link(url: Source, scripts: Sequence[Script] = (ECHO,)) -> AsyncIterator[RedisLink]:
    """Yield a link that has been started, and may not be connected yet."""
    link = RedisLink(url, deadline_s=DEADLINE_S, in_flight_max=IN_FLIGHT_MAX, scripts=scripts)
    link.start()
    yield link
    await link.close()


async def wait_until_up(link: RedisLink) -> float:
    started_s = time.monotonic()
    while not link.is_up:
        await asyncio.sleep(0.005)
    return time.monotonic() - started_s


async def wait_until_down(link: RedisLink) -> float:
    started_s = time.monotonic()
    while link.is_up:
        await asyncio.sleep(0.005)
    return time.monotonic() - started_s
