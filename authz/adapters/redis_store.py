"""Picks what talks to Redis by the form of its URL: a server, or a primary behind sentinels, or a cluster.

What each does is in `redis_keys.py` and `redis_cluster_keys.py`.
"""

from dataclasses import dataclass

from authz.adapters.redis_cluster import REDIRECTS_MAX, RedisCluster
from authz.adapters.redis_cluster_keys import SCRIPTS as CLUSTER_SCRIPTS
from authz.adapters.redis_cluster_keys import RedisClusterKeys
from authz.adapters.redis_keys import CHECK, PUT, OnUse, RedisKeys, unnoted
from authz.adapters.redis_link import RedisLink
from authz.adapters.redis_pipe import OnAnswered
from authz.adapters.redis_url import Form, read_url


@dataclass(frozen=True, slots=True)
class RedisStore:
    """What keeps the connections up, the projection over them, and how long an answer may take, redirected or not."""

    link: RedisLink | RedisCluster
    keys: RedisKeys | RedisClusterKeys
    answer_s_max: float


def redis_store(
    url: str,
    *,
    deadline_s: float,
    in_flight_max: int,
    negative_ttl_s: float,
    on_answered: OnAnswered = lambda _seconds, _commands: None,
    on_use: OnUse = unnoted,
) -> RedisStore:
    """Put together what a URL asks for; nothing is connected before `link.start()`. Raises `ValueError`."""
    if read_url(url).form is Form.CLUSTER:
        cluster = RedisCluster(
            url, deadline_s=deadline_s, in_flight_max=in_flight_max, scripts=CLUSTER_SCRIPTS, on_answered=on_answered
        )
        keys = RedisClusterKeys(cluster, negative_ttl_s=negative_ttl_s, on_use=on_use)
        return RedisStore(cluster, keys, deadline_s * (1 + REDIRECTS_MAX))
    link = RedisLink(
        url, deadline_s=deadline_s, in_flight_max=in_flight_max, scripts=(CHECK, PUT), on_answered=on_answered
    )
    return RedisStore(link, RedisKeys(link, negative_ttl_s=negative_ttl_s, on_use=on_use), deadline_s)
