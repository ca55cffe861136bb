"""Picks what talks to Redis by the form of its URL: a server, or a primary behind sentinels, or a cluster.

What each does is in `redis_keys.py` and `redis_cluster_keys.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from authz.adapters.redis.cluster_keys import SCRIPTS as CLUSTER_SCRIPTS
from authz.adapters.redis.cluster_keys import RedisClusterKeys
from authz.adapters.redis.connection.cluster import RedisCluster
from authz.adapters.redis.connection.link import RedisLink, Script
from authz.adapters.redis.connection.pipe import OnAnswered
from authz.adapters.redis.connection.url import Form, read_url
from authz.adapters.redis.keys import OnUse, RedisKeys
from authz.adapters.redis.records import CHECK, OPENING, PUT


@dataclass(frozen=True, slots=True)
class RedisStore:
    """What keeps the connections up, and the projection over them."""

    link: RedisLink | RedisCluster
    keys: RedisKeys | RedisClusterKeys


def redis_store(
    url: str,
    *,
    deadline_s: float,
    in_flight_max: int,
    negative_ttl_s: float,
    scripts: Sequence[Script] = (),
    on_answered: OnAnswered = lambda _seconds, _commands: None,
    on_use: OnUse = lambda _key_id: None,
) -> RedisStore:
    """Put together what a URL asks for; nothing is connected before `link.start()`. Raises `ValueError`.

    `scripts` are those that will run over the link besides the projection's.
    """
    if read_url(url).form is Form.CLUSTER:
        cluster = RedisCluster(
            url,
            deadline_s=deadline_s,
            in_flight_max=in_flight_max,
            scripts=(*CLUSTER_SCRIPTS, *scripts),
            on_answered=on_answered,
        )
        return RedisStore(cluster, RedisClusterKeys(cluster, negative_ttl_s=negative_ttl_s, on_use=on_use))
    link = RedisLink(
        url,
        deadline_s=deadline_s,
        in_flight_max=in_flight_max,
        scripts=(CHECK, PUT, OPENING, *scripts),
        on_answered=on_answered,
    )
    return RedisStore(link, RedisKeys(link, negative_ttl_s=negative_ttl_s, on_use=on_use))
