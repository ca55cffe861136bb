"""Selects the Redis adapter by the form of the URL: one server, a primary behind Sentinels, or a cluster.

The adapters are `keys.py` and `cluster_keys.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from authz.adapters.clock_skew import OnSkew
from authz.adapters.redis.checks import OnUse
from authz.adapters.redis.cluster_accounts import SCRIPTS as ACCOUNT_SCRIPTS
from authz.adapters.redis.cluster_keys import SCRIPTS as CLUSTER_SCRIPTS
from authz.adapters.redis.cluster_keys import RedisClusterKeys
from authz.adapters.redis.connection.cluster import RedisCluster
from authz.adapters.redis.connection.handshake import CONNECT_S
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.pipe import OnAnswered
from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.connection.url import Form, Source, UrlSource
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.limit_checks import OnLate
from authz.adapters.redis.records import CHECK, CHECK_MANY, KEY_SCRIPTS, OPENING, PUT
from authz.core.limits import LostBuckets


@dataclass(frozen=True, slots=True)
class RedisStore:
    """The connections and the key projection that uses them."""

    link: RedisLink | RedisCluster
    keys: RedisKeys | RedisClusterKeys


def redis_store(  # noqa: PLR0913 -- settings, each by its name
    url: Source,
    *,
    deadline_s: float,
    in_flight_max: int,
    negative_ttl_s: float,
    scripts: Sequence[Script] = (),
    on_answered: OnAnswered = lambda _seconds, _commands, _late: None,
    on_use: OnUse = lambda _key_id: None,
    connect_s: float = CONNECT_S,
    on_skew: OnSkew | None = None,
    lost_buckets: LostBuckets = LostBuckets.FULL,
    on_unknown_plan: Callable[[], None] = lambda: None,
    on_late: OnLate | None = None,
) -> RedisStore:
    """Build the adapter for a URL, or what reads one for each connection; `link.start()` connects it.

    `scripts` are those that run over the link beside the projection's. Raises `ValueError`.
    """
    if UrlSource(url).url.form is Form.CLUSTER:
        cluster = RedisCluster(
            url,
            deadline_s=deadline_s,
            in_flight_max=in_flight_max,
            scripts=(*CLUSTER_SCRIPTS, *ACCOUNT_SCRIPTS, *scripts),
            on_answered=on_answered,
            connect_s=connect_s,
        )
        of_cluster = RedisClusterKeys(
            cluster,
            negative_ttl_s=negative_ttl_s,
            on_use=on_use,
            on_skew=on_skew,
            on_unknown_plan=on_unknown_plan,
            on_late=on_late,
        )
        return RedisStore(cluster, of_cluster)
    link = RedisLink(
        url,
        deadline_s=deadline_s,
        in_flight_max=in_flight_max,
        scripts=(CHECK, CHECK_MANY, PUT, OPENING, *KEY_SCRIPTS.limits.all, *scripts),
        on_answered=on_answered,
        connect_s=connect_s,
    )
    keys = RedisKeys(
        link,
        negative_ttl_s=negative_ttl_s,
        on_use=on_use,
        on_skew=on_skew,
        lost_buckets=lost_buckets,
        on_unknown_plan=on_unknown_plan,
        on_late=on_late,
    )
    return RedisStore(link, keys)
