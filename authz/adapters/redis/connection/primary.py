"""Finds the Redis primary, one server or the one that Sentinels name, and creates connections to it.

`link.py` maintains and replaces the connection.
"""

import asyncio
import time
from enum import Enum, auto
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from authz.adapters.redis.connection.sentinel import Sentinel
from authz.adapters.redis.connection.url import Address, Form, RedisUrl

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


TRUST_S = 1.25
"""How long a primary is used after the last query whose answer named it: three queries that are late or lost."""

LEFT_WITHIN_S = 1.5
"""After a new primary was first used, within this time no process uses the former one: `TRUST_S` with a reserve."""

_SERVER_INTERVAL_S = 1.0
_SENTINEL_INTERVAL_S = 0.25
_SILENCES_MAX = 2
# From here on the replica is the primary, while this sentinel still names the former one.
_PROMOTED = {"reconf_slaves", "update_config"}


class Sight(Enum):
    """What a query for the primary showed of the one in use."""

    SAME = auto()
    MOVED = auto()
    NO_ANSWER = auto()


class Primary(Protocol):
    """The location of the writable data. `watch_interval_s` is how often to ask whether it has moved.

    `is_fixed` says that it has one address, so that no two processes use different primaries.
    `trusted_until_s` is the time on the monotonic clock after which the primary of the last connection must not be
    used unless a query confirms it; None if no other process can use another primary, or if nobody answers queries.
    """

    watch_interval_s: float
    is_fixed: bool

    @property
    def trusted_until_s(self) -> float | None:
        """Return the end of the trust in the primary of the last connection."""
        ...

    async def use(self, url: RedisUrl) -> None:
        """Connect with another URL of the same form from now on."""
        ...

    async def connection(self) -> AbstractConnection:
        """Create a connection that is not open yet; raises `RedisError`."""
        ...

    async def look(self) -> Sight:
        """Query whether the primary still has the address of the last connection."""
        ...

    async def close(self) -> None:
        """Close the connections used to find it."""
        ...


class NoPrimaryError(RedisError):
    """The Sentinels answer, and know of no primary that is up."""


class PromotedError(RedisError):
    """A replica was promoted, and no Sentinel that answered names it yet."""


class OneServer:
    """A server at a fixed address."""

    watch_interval_s = _SERVER_INTERVAL_S
    is_fixed = True
    trusted_until_s: float | None = None

    def __init__(self, url: str) -> None:
        self._pool = _pool(url)

    async def use(self, url: RedisUrl) -> None:
        """Connect with another URL from now on."""
        self._pool = _pool(url.text)

    async def connection(self) -> AbstractConnection:
        """Create a connection that is not open yet."""
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # left bare
        return connection

    async def look(self) -> Sight:
        """Query nothing: the address is fixed."""
        return Sight.SAME

    async def close(self) -> None:
        """Close nothing."""


class SentinelPrimary:
    """The primary of a name, at the address that the Sentinels report.

    All Sentinels are queried at the same time, and the answer with the latest failover counts: the first answer may
    come from a Sentinel that a partition separated before the failover
    (https://redis.io/docs/latest/develop/reference/sentinel-clients/ queries them one after the other).

    While no Sentinel answers, the primary stays in use: otherwise the loss of the Sentinels would be an outage.
    """

    watch_interval_s = _SENTINEL_INTERVAL_S
    is_fixed = False

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._sentinels = _clients(url)
        self._led_to: Address | None = None
        self._trusted_until_s = 0.0
        self._silences = 0

    @property
    def trusted_until_s(self) -> float | None:
        """Return the end of the trust in the primary; None while no Sentinel answers."""
        return None if self._silences >= _SILENCES_MAX else self._trusted_until_s

    async def use(self, url: RedisUrl) -> None:
        """Query the Sentinels of another URL from now on, and connect to the primary with it."""
        await self.close()
        self._url, self._sentinels = url, _clients(url)

    async def connection(self) -> AbstractConnection:
        """Create a connection to the primary; raises `RedisError` if no Sentinel knows it."""
        asked_s = time.monotonic()
        self._led_to = await self._named()
        self._silences, self._trusted_until_s = 0, asked_s + TRUST_S
        return await OneServer(self._url.server_url(self._led_to)).connection()

    async def look(self) -> Sight:
        """Query the Sentinels. The answer is as old as the query, because they may have changed their mind since."""
        asked_s = time.monotonic()
        try:
            if await self._named() != self._led_to:
                return Sight.MOVED
        except PromotedError:
            return Sight.MOVED
        except NoPrimaryError:
            pass  # nobody can connect to another one yet
        except RedisError:
            self._silences += 1
            return Sight.NO_ANSWER
        self._silences = 0
        self._trusted_until_s = asked_s + TRUST_S
        return Sight.SAME

    async def close(self) -> None:
        """Close the connections to the Sentinels."""
        await asyncio.gather(*(sentinel.close() for sentinel in self._sentinels), return_exceptions=True)

    async def _named(self) -> Address:
        answers = await self._ask()
        states = [answer for answer in answers if isinstance(answer, dict)]
        if not states:
            known = [answer for answer in answers if isinstance(answer, RedisError)]
            raise known[0] if known else RedisError("no sentinel answers")
        latest = max(int(state["config-epoch"]) for state in states)
        newest = [state for state in states if int(state["config-epoch"]) == latest]
        for state in newest:
            up = state["is_master"] and not state["is_sdown"] and not state["is_odown"]
            if up and state.get("failover-state") not in _PROMOTED:
                return Address(state["ip"], int(state["port"]))
        if any(state.get("failover-state") in _PROMOTED for state in newest):
            raise PromotedError("the sentinels are replacing the primary")
        raise NoPrimaryError("the sentinels know of no primary that is up")

    async def _ask(self) -> list[Any]:
        """Query every Sentinel; returns the states, and the errors, of those that answered in time."""
        asked = [asyncio.ensure_future(sentinel.state(self._url.name)) for sentinel in self._sentinels]
        try:
            await asyncio.wait(asked, timeout=_SENTINELS_DEADLINE_S)
        finally:
            for question in asked:
                question.cancel()
            answers = await asyncio.gather(*asked, return_exceptions=True)
        return list(answers)


def _pool(url: str) -> ConnectionPool:
    pool = ConnectionPool.from_url(url)
    # After the parameters of the URL, which may have others of the same names.
    pool.connection_kwargs.update(_SET_UP)
    return pool


def _clients(url: RedisUrl) -> list[Sentinel]:
    return [Sentinel(_pool(url.sentinel_url(node))) for node in url.nodes]


def find_primary(url: RedisUrl) -> Primary:
    """Return the primary that a URL of one server or of Sentinels names; raises `ValueError`."""
    match url.form:
        case Form.SERVER:
            return OneServer(url.text)
        case Form.SENTINEL:
            return SentinelPrimary(url)
        case Form.CLUSTER:
            raise ValueError("a cluster has many primaries")
