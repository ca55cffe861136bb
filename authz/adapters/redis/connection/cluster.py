"""The links to a Redis Cluster: one to each primary. Follows the slot map and redirections.

redis-py opens the connections. Its cluster client is not used, because it uses one connection per command, and closes
the connections of all nodes when one of them fails. `slots.py` queries the slot map, `../cluster_keys.py` owns the
commands.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, TypeVar

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from authz.adapters.redis.connection.data_mark import keys_tried
from authz.adapters.redis.connection.epoch import IN_CLUSTER, OF_NODE
from authz.adapters.redis.connection.errors import Redirected
from authz.adapters.redis.connection.handshake import CONNECT_S
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.link_counts import LinkCounts
from authz.adapters.redis.connection.pipe import OnAnswered
from authz.adapters.redis.connection.scripts import Script, packed
from authz.adapters.redis.connection.slots import Layout, find_layout
from authz.adapters.redis.connection.url import Address, Source, UrlSource
from authz.core.errors import StoreUnavailable

REDIRECTS_MAX = 4
"""More than a slot migration needs: two nodes that redirect to each other do not know the owner yet."""

_LINKED_S = 1.0
_LOOK_INTERVAL_S = 1.0
_LOOKS_PER_REFRESH = 10
_BACKOFF_MIN_S = 0.1
_BACKOFF_MAX_S = 1.0
_TAGS_MAX = 1000

_ASKING = packed("ASKING")
_GUARD = b"""if life ~= string.match(ARGV[1], '^%S+') then
  return redis.error_reply('OTHERLIFE the data has begun another life')
end
"""

_log = logging.getLogger("authz.redis")

T = TypeVar("T")


class RedisCluster:
    """Links to the primaries of a cluster. The parameters are those of `RedisLink` and apply to each link.

    `reached` is set once every primary is connected, or one is and the others are late.
    """

    def __init__(
        self,
        url: Source,
        *,
        deadline_s: float,
        in_flight_max: int,
        scripts: Sequence[Script] = (),
        on_answered: OnAnswered = lambda _seconds, _commands, _late: None,
        connect_s: float = CONNECT_S,
    ) -> None:
        self._source = UrlSource(url)
        self._new_link = partial(
            RedisLink,
            deadline_s=deadline_s,
            in_flight_max=in_flight_max,
            scripts=scripts,
            on_answered=on_answered,
            life=OF_NODE,
            connect_s=connect_s,
        )
        self._links: dict[Address, RedisLink] = {}
        self._owners: list[RedisLink | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        # The importing node of each migrating slot that an ASK redirection named.
        self._importers: dict[int, RedisLink] = {}
        self._doubted = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._reached_at_s = float("inf")
        self._left = LinkCounts()  # of links to nodes that have left
        self.complaint = ""
        self.reached = asyncio.Event()

    @property
    def links(self) -> list[RedisLink]:
        """Return the links to all primaries."""
        return list(self._links.values())

    def counts(self) -> LinkCounts:
        """Return the sums over all nodes (`RedisLink.counts`)."""
        return sum((link.counts() for link in self._links.values()), self._left)

    @property
    def is_up(self) -> bool:
        """Return whether every slot has a connected primary."""
        return None not in self._owners and all(link.is_up for link in self._links.values())

    @property
    def fault(self) -> str:
        """Return why commands to some node fail now; empty if all succeed."""
        if None in self._owners:
            return "no known node has some of the slots"
        return next((link.fault for link in self._links.values() if link.fault), "")

    @property
    def memory_policy(self) -> str:
        """Return the eviction policy of a node that evicts keys; empty if none does."""
        return next((link.memory_policy for link in self._links.values() if link.memory_policy), "")

    @property
    def data_mark(self) -> bytes:
        """Return nothing: in a cluster a mark would be on one node only."""
        return b""

    @property
    def reconnected_at_s(self) -> float | None:
        """Return when the latest connection was made after the first connection to the cluster."""
        found = (link.connected_at_s for link in self._links.values())
        return max((at_s for at_s in found if at_s is not None and at_s > self._reached_at_s), default=None)

    def start(self) -> None:
        """Find and connect the primaries, and follow their changes until `close`."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep_informed())

    async def close(self) -> None:
        """Close every connection; pending commands are refused."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await asyncio.gather(*(link.close() for link in self._links.values()), *self._closing)

    def owner(self, slot: int) -> RedisLink | None:
        """Return the link to the primary of a slot; None if it is unknown."""
        return self._owners[slot]

    def holders(self, slot: int) -> list[RedisLink]:
        """Return the links to all primaries that may hold keys of a slot: two during its migration."""
        return [link for link in (self._owners[slot], self._importers.get(slot)) if link is not None]

    def follow(self, told: Redirected, teller: RedisLink) -> RedisLink:
        """Return the link of a redirection, prepared for one command, which must be submitted at once."""
        host = told.host or next((at.host for at, link in self._links.items() if link is teller), "")
        link = self._link(Address(host, told.port))
        if told.asking:
            self._importers[told.slot] = link
            link.submit(_ASKING, _ignore)
        else:
            self._owners[told.slot] = link
            self._doubted.set()
        return link

    def doubt(self) -> None:
        """Query the slot map again, after an unexpected reply."""
        self._doubted.set()

    async def on_owner(self, key: bytes, run: Callable[[RedisLink], Awaitable[T]]) -> T:
        """Run a command on the primary of a key and follow redirections; raises `StoreUnavailable`."""
        link = self.owner(key_slot(key))
        if link is None:
            raise StoreUnavailable("redis", "no known node has the key's slot")
        for _ in range(REDIRECTS_MAX):
            try:
                return await run(link)
            except Redirected as redirected:
                link = self.follow(redirected, link)
            except StoreUnavailable:
                self.doubt()
                raise
        return await run(link)

    async def call(self, script: Script, keys: bytes | tuple[bytes, ...], *arguments: bytes) -> Any:  # noqa: ANN401 -- any reply
        """Run a script on one key, or several of one hash slot, as `RedisLink.call` does."""
        first = keys if isinstance(keys, bytes) else keys[0]
        return await self.on_owner(first, lambda link: link.call(script, keys, *arguments))

    async def _keep_informed(self) -> None:
        backoff_s = _BACKOFF_MIN_S
        while True:
            self._doubted.clear()
            try:
                self._source.renew()
                layout = await find_layout(self._source.url, self._links)
            except StoreUnavailable as error:
                if str(error) != self.complaint:
                    self.complaint = str(error)
                    _log.warning("the redis cluster is unavailable", extra={"error": self.complaint})
            else:
                self.complaint = ""
                self._apply(layout)
                await self._note_reached()
            # Jitter spreads the queries of many sidecars; the backoff limits them during a failure.
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1))  # noqa: S311 -- not a secret
            backoff_s = _BACKOFF_MIN_S if await self._calm() else min(_BACKOFF_MAX_S, backoff_s * 2)

    async def _calm(self) -> bool:
        """Wait until the next query; return whether there was no fault for a while."""
        for looks in range(_LOOKS_PER_REFRESH):
            if self._doubted.is_set() or not self.is_up:
                return looks > 0
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_INTERVAL_S):
                    await self._doubted.wait()
        return True

    async def _note_reached(self) -> None:
        if self.reached.is_set() or not self._links:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINKED_S):
                await asyncio.gather(*(link.reached.wait() for link in self._links.values()))
        if any(link.is_up for link in self._links.values()):
            self._reached_at_s = asyncio.get_running_loop().time()
            self.reached.set()

    def _apply(self, layout: Layout) -> None:
        owners: list[RedisLink | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, address in layout.ranges:
            owners[first : last + 1] = [self._link(address)] * (last + 1 - first)
            if keys := _tried(first, last):
                self._link(address).try_on(keys)
        self._owners = owners
        primaries = {address for _, _, address in layout.ranges}
        left = [self._links.pop(address) for address in self._links.keys() - primaries]
        self._importers = {
            slot: link for slot, link in self._importers.items() if link not in left and link is not owners[slot]
        }
        for link in left:
            self._left += link.counts().ended()
            closing = asyncio.get_running_loop().create_task(link.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _link(self, address: Address) -> RedisLink:
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = self._new_link(lambda: self._source.url.server_url(address))
            link.start()
        return link


def guarded(script: Script) -> Script:
    """Return the cluster variant of a script: it runs only in the epoch with which its first argument begins."""
    return Script(IN_CLUSTER + _GUARD + script.source)


@lru_cache(maxsize=1024)
def _tried(first: int, last: int) -> Sequence[bytes]:
    """Return keys in a range of slots, for a trial of what checks do; none if it has few slots."""
    tags = (b"{%d}" % number for number in range(_TAGS_MAX))
    return next((keys_tried(tag) for tag in tags if first <= key_slot(tag) <= last), ())


def _ignore(_reply: object) -> None:
    pass
