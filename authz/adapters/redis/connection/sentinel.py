"""One Sentinel: queries for the state of a primary, which continue in the background if their caller gives up.

What the answers of several Sentinels mean is in `primary.py`.
"""

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool

_QUERY_S = 1.0


class Sentinel:
    """A client of one Sentinel.

    The first query opens the connection, which takes several round trips more. A query whose caller gives up continues,
    so over a slow network the next one finds an open connection.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._client = Redis.from_pool(pool)
        self._query: asyncio.Task[Any] | None = None

    async def state(self, name: str) -> Any:  # noqa: ANN401 -- redis-py's
        """Return the state of the primary that it calls `name`; raises `RedisError` and `OSError`.

        The answer is to a query that begins after the call.
        """
        while self._query is not None and not self._query.done():
            await asyncio.wait({self._query})
        self._query = asyncio.create_task(self._asked(name))
        self._query.add_done_callback(_noted)
        return await asyncio.shield(self._query)

    async def close(self) -> None:
        """Close the connection."""
        if self._query is not None:
            self._query.cancel()
        await self._client.aclose()

    async def _asked(self, name: str) -> Any:  # noqa: ANN401 -- as above
        async with asyncio.timeout(_QUERY_S):
            return await self._client.sentinel_master(name)


def _noted(query: asyncio.Task[Any]) -> None:
    """Take note of a failure, which nobody else does after the caller has given up."""
    if not query.cancelled():
        query.exception()
