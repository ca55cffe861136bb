"""Queries the slot map of a Redis Cluster from its nodes.

`cluster.py` uses the result.
"""

import asyncio
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import RedisError

from authz.adapters.redis.connection.errors import shown
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.primary import OneServer
from authz.adapters.redis.connection.scripts import packed
from authz.adapters.redis.connection.url import Address, RedisUrl
from authz.core.errors import StoreUnavailable

_ASKED_MAX = 2
_DEADLINE_S = 1.0  # opening the connection included, which takes several round trips
T = TypeVar("T")

_QUESTIONS = (("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))


@dataclass(frozen=True, slots=True)
class Layout:
    """The slot map of one node: `ranges` of (first slot, last slot, primary).

    `is_ok` is False if the node does not serve requests. `epoch` grows with every failover that the node knows.
    """

    is_ok: bool
    epoch: int
    ranges: tuple[tuple[int, int, Address], ...]


async def find_layout(url: RedisUrl, links: dict[Address, RedisLink]) -> Layout:
    """Query some of the nodes; the answer of a serving node with the latest failover counts.

    Nodes with a link are queried first, over it; the others only if none of these serves. Raises `StoreUnavailable`.
    """
    up = [(address, link) for address, link in links.items() if link.is_up]
    answers = await asyncio.gather(*(_over(address, link) for address, link in _some(up)))
    if not any(isinstance(answer, Layout) and answer.is_ok for answer in answers):
        answers += await asyncio.gather(*(_from(url, address) for address in _some({*url.nodes, *links})))
    layouts = [answer for answer in answers if isinstance(answer, Layout)]
    if not layouts:
        raise next(answer for answer in answers if isinstance(answer, StoreUnavailable))
    return max(layouts, key=lambda layout: (layout.is_ok, layout.epoch))


async def _over(address: Address, link: RedisLink) -> Layout | StoreUnavailable:
    try:
        info, slots = await asyncio.gather(*(link.ask(*words) for words in _QUESTIONS))
        return _layout(address, info, slots)
    except StoreUnavailable as error:
        return error


async def _from(url: RedisUrl, address: Address) -> Layout | StoreUnavailable:
    connection = await OneServer(url.server_url(address)).connection()
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it bare
            await connection.send_packed_command(b"".join(packed(*words) for words in _QUESTIONS))  # in one round trip
            replies = [await connection.read_response(disable_decoding=True) for _ in _QUESTIONS]
            return _layout(address, *replies)
    except StoreUnavailable as error:
        return error
    except (
        RedisError,
        OSError,
        ValueError,
    ) as error:  # a timeout is an OSError, a name that cannot be one a ValueError
        return StoreUnavailable("redis", shown(error) or "no answer in time")
    finally:
        await connection.disconnect(nowait=True)


def _layout(address: Address, info: bytes, slots: list[Any]) -> Layout:
    try:
        epoch = re.search(rb"cluster_current_epoch:(\d+)", info)
        # A node that does not know its own host name omits it: it is the node that was queried.
        ranges = tuple(
            (first, last, Address(primary[0].decode() if primary[0] else address.host, primary[1]))
            for first, last, primary, *_replicas in slots
        )
        return Layout(b"cluster_state:ok" in info, int(epoch[1]) if epoch else 0, ranges)
    except (LookupError, TypeError, ValueError) as error:
        raise StoreUnavailable("redis", "slots that cannot be read", transient=False) from error


def _some(nodes: Iterable[T]) -> list[T]:
    known = list(nodes)
    return random.sample(known, min(len(known), _ASKED_MAX))
