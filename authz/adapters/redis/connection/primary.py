"""Finds the Redis primary, one server or the one that Sentinels name, and creates connections to it.

`link.py` maintains and replaces the connection.
"""

import asyncio
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from authz.adapters.redis.connection.url import Address, Form, RedisUrl, read_url

_SENTINELS_DEADLINE_S = 0.2

_SET_UP: dict[str, Any] = {
    "protocol": 2,
    "client_name": "authz",
    # The caller limits the set-up: redis-py's timeouts use asyncio.wait_for, which on Python 3.11 loses
    # cancellations.
    "socket_connect_timeout": None,
    "socket_timeout": None,
    "retry": None,
}


_SERVER_INTERVAL_S = 1.0
_SENTINEL_INTERVAL_S = 0.25


class Primary(Protocol):
    """The location of the writable data. `watch_interval_s` is how often to ask whether it has moved."""

    watch_interval_s: float

    async def connection(self) -> AbstractConnection:
        """Create a connection that is not open yet; raises `RedisError`."""
        ...

    async def has_moved(self) -> bool:
        """Return whether the primary has another address than that of the last connection."""
        ...

    async def close(self) -> None:
        """Close the connections used to find it."""
        ...


class OneServer:
    """A server at a fixed address."""

    watch_interval_s = _SERVER_INTERVAL_S

    def __init__(self, url: str) -> None:
        self._pool = ConnectionPool.from_url(url, **_SET_UP)

    async def connection(self) -> AbstractConnection:
        """Create a connection that is not open yet."""
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # left bare
        return connection

    async def has_moved(self) -> bool:
        """Return False: the address is fixed."""
        return False

    async def close(self) -> None:
        """Close nothing."""


class SentinelPrimary:
    """The primary of a name, at the address that the Sentinels report.

    All Sentinels are queried at the same time, and the answer with the latest failover counts: the first answer may
    come from a Sentinel that a partition separated before the failover
    (https://redis.io/docs/latest/develop/reference/sentinel-clients/ queries them one after the other).
    """

    watch_interval_s = _SENTINEL_INTERVAL_S

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._sentinels = [Redis.from_url(url.sentinel_url(node), **_SET_UP) for node in url.nodes]
        self._led_to: Address | None = None

    async def connection(self) -> AbstractConnection:
        """Create a connection to the primary; raises `RedisError` if no Sentinel knows it."""
        self._led_to = await self._named()
        return await OneServer(self._url.server_url(self._led_to)).connection()

    async def has_moved(self) -> bool:
        """Query the Sentinels; the address stays the same if none of them answers."""
        try:
            return await self._named() != self._led_to
        except RedisError:
            return False

    async def close(self) -> None:
        """Close the connections to the Sentinels."""
        await asyncio.gather(*(sentinel.aclose() for sentinel in self._sentinels), return_exceptions=True)

    async def _named(self) -> Address:
        answers = await self._ask()
        states = [answer for answer in answers if isinstance(answer, dict)]
        if not states:
            known = [answer for answer in answers if isinstance(answer, RedisError)]
            raise known[0] if known else RedisError("no sentinel answers")
        latest = max(int(state["config-epoch"]) for state in states)
        for state in states:
            up = state["is_master"] and not state["is_sdown"] and not state["is_odown"]
            if up and int(state["config-epoch"]) == latest:
                return Address(state["ip"], int(state["port"]))
        raise RedisError("the sentinels know of no primary that is up")

    async def _ask(self) -> list[Any]:
        """Query every Sentinel; returns the states, and the errors, of those that answered in time."""
        asked = [asyncio.ensure_future(sentinel.sentinel_master(self._url.name)) for sentinel in self._sentinels]
        try:
            await asyncio.wait(asked, timeout=_SENTINELS_DEADLINE_S)
        finally:
            for question in asked:
                question.cancel()
            answers = await asyncio.gather(*asked, return_exceptions=True)
        return list(answers)


def find_primary(url: str) -> Primary:
    """Return the primary that a URL of one server or of Sentinels names; raises `ValueError`."""
    read = read_url(url)
    match read.form:
        case Form.SERVER:
            return OneServer(url)
        case Form.SENTINEL:
            return SentinelPrimary(read)
        case Form.CLUSTER:
            raise ValueError("a cluster has many primaries")
