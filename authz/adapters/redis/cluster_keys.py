"""Key records and their buckets in a Redis Cluster: each key on the primary of its slot, stored as in `keys.py`.

The slot map and redirections belong to `connection/cluster.py`, accounts to `cluster_accounts.py`. Every script names
the epoch in which it may run, and the node compares it with its current epoch, because the client cannot know
beforehand which node executes a command.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from redis.crc import key_slot

from authz.adapters.clock_skew import OnSkew
from authz.adapters.redis.checks import OnUse
from authz.adapters.redis.cluster_accounts import ClusterAccounts, granted
from authz.adapters.redis.connection.cluster import REDIRECTS_MAX, RedisCluster, guarded
from authz.adapters.redis.connection.errors import Redirected
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.keys import RedisKeys
from authz.adapters.redis.limit_checks import OnLate, at
from authz.adapters.redis.records import CHECK, LIMITS, LOOK, PUT, KeyScripts, LimitScripts, redis_key
from authz.core.check import AccountRecord, KeyRecord, Lookup, Take
from authz.core.errors import StoreUnavailable
from authz.core.limits import KeyLimits, Limit
from authz.service.ports import Taken, TakeReply

IN_CLUSTER = KeyScripts(guarded(CHECK), guarded(PUT), LimitScripts(guarded(LOOK), guarded(LIMITS), None))
SCRIPTS = (IN_CLUSTER.check, IN_CLUSTER.put, *IN_CLUSTER.limits.all)


@dataclass(frozen=True, slots=True)
class _Limits:
    """The limits of keys without one of their own, of accounts, and those of further buckets."""

    key: Limit
    account: Limit | None
    further: KeyLimits | None


class RedisClusterKeys:
    """The projection of key and account records (`service.ports.KeyProjection`) over the links to a cluster."""

    def __init__(
        self,
        cluster: RedisCluster,
        *,
        negative_ttl_s: float,
        on_use: OnUse,
        on_skew: OnSkew | None = None,
        on_unknown_plan: Callable[[], None] = lambda: None,
        on_late: OnLate | None = None,
    ) -> None:
        self._cluster = cluster
        self._accounts = ClusterAccounts(cluster)
        self._negative_ttl_s = negative_ttl_s
        self._on_use = on_use
        self._on_skew = on_skew
        self._on_unknown_plan = on_unknown_plan
        self._on_late = on_late
        self._at: dict[RedisLink, RedisKeys] = {}

    def epoch_of(self, digest: bytes) -> str:  # noqa: ARG002 -- the node of the key's account is not known yet
        """Return the current epochs of all nodes."""
        return " ".join(link.epoch for link in self._cluster.links if link.epoch)

    def take(
        self,
        lookups: Sequence[Lookup],
        default: Limit,
        taken: Taken,
        *,
        account: Limit | None = None,
        limits: KeyLimits | None = None,
    ) -> None:
        """Look up keys and charge their buckets (`service.ports.KeyProjection`)."""
        by_link: dict[RedisLink | None, list[int]] = {}
        for place, lookup in enumerate(lookups):
            by_link.setdefault(self._cluster.owner(key_slot(redis_key(lookup.digest))), []).append(place)
        all_limits = _Limits(default, account, limits)
        for link, places in by_link.items():
            if link is None:
                unknown = StoreUnavailable("redis", "no known node has the key's slot")
                asyncio.get_running_loop().call_soon(taken, places, [unknown] * len(places))
            else:
                self._take(link, [lookups[place] for place in places], all_limits, at(places, taken), REDIRECTS_MAX)

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        """Write a record unless Redis holds a newer one (`service.ports.KeyProjection`)."""

        async def write(link: RedisLink) -> bool:
            if epoch is not None and link.epoch not in epoch.split(" "):
                return False
            return await self._keys_at(link).put(digest, record)

        return await self._cluster.on_owner(redis_key(digest), write)

    async def put_account(self, record: AccountRecord, *, epoch: str | None = None) -> bool:
        """Write an account's record unless Redis holds a newer one (`service.ports.KeyProjection`)."""
        return await self._accounts.put(record, epoch=epoch)

    async def settled(self) -> None:
        """Return at once: a node that was replaced refuses the scripts of another epoch."""

    def _take(self, link: RedisLink, lookups: Sequence[Lookup], limits: _Limits, taken: Taken, redirects: int) -> None:
        replied = partial(self._replied, link, lookups, limits, taken, redirects)
        self._keys_at(link).take(lookups, limits.key, replied, limits=limits.further)

    def _replied(
        self,
        link: RedisLink,
        lookups: Sequence[Lookup],
        limits: _Limits,
        taken: Taken,
        redirects: int,
        places: Sequence[int],
        replies: Sequence[TakeReply],
    ) -> None:
        complete: dict[int, TakeReply] = {}
        pending: dict[int, Take] = {}
        for place, reply in zip(places, replies, strict=True):
            if isinstance(reply, Redirected) and redirects:
                elsewhere = self._cluster.follow(reply, link)
                self._take(elsewhere, [lookups[place]], limits, at([place], taken), redirects - 1)
            elif isinstance(reply, Take) and granted(reply):
                pending[place] = reply
            else:
                if isinstance(reply, StoreUnavailable):
                    self._cluster.doubt()
                complete[place] = reply
        if pending:
            of_pending = [lookups[place] for place in pending]
            self._accounts.take(of_pending, list(pending.values()), limits.account, at(list(pending), taken))
        if complete:
            taken(list(complete), list(complete.values()))

    def _keys_at(self, link: RedisLink) -> RedisKeys:
        keys = self._at.get(link)
        if keys is None:
            links = self._cluster.links
            # A new link is the occasion to drop the links that the cluster has closed.
            self._at = {known: kept for known, kept in self._at.items() if known in links}
            keys = RedisKeys(
                link,
                negative_ttl_s=self._negative_ttl_s,
                on_use=self._on_use,
                on_skew=self._on_skew,
                scripts=IN_CLUSTER,
                on_unknown_plan=self._on_unknown_plan,
                on_late=self._on_late,
                cluster=self._cluster,
            )
            self._at[link] = keys
        return keys
