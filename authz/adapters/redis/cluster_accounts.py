"""The account's part of a check in a Redis Cluster, whose string may be on another node than the key's.

The key's part comes first and belongs to `cluster_keys.py`. Both must grant. If the account refuses, the key gets its
tokens back.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from struct import Struct, error
from typing import Any

import hiredis
from msgspec.structs import replace
from redis.crc import key_slot

from authz.adapters.redis.connection.cluster import REDIRECTS_MAX, RedisCluster, guarded
from authz.adapters.redis.connection.errors import Redirected, failure, is_forgotten
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import packed
from authz.adapters.redis.leases import note_account
from authz.adapters.redis.limit_checks import at
from authz.adapters.redis.record_writes import noted, write
from authz.adapters.redis.records import ACCOUNT, PUT, REFUND, account_header, account_key, further_key, redis_key
from authz.core.check import AccountRecord, Bucket, BucketLimits, Lookup, Quotas, Take, TakeOutcome
from authz.core.errors import StoreUnavailable
from authz.core.limits import ACCOUNT_ITEM, NO_LIMIT, Limit, NamedLimit
from authz.service.ports import Taken, TakeReply

SCRIPTS = _CHECK_ACCOUNT, _REFUND = guarded(ACCOUNT), guarded(REFUND)

_PUT = guarded(PUT)
_ASKED, _BUCKET = Struct("<3d"), Struct("<3d")
_OUTCOMES = {b"s": TakeOutcome.SUSPENDED, b"m": TakeOutcome.LIMITED, b"h": TakeOutcome.GRANTED}


class ClusterAccounts:
    """Checks and writes account records over the links to a cluster."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster

    def take(self, lookups: Sequence[Lookup], takes: Sequence[Take], default: Limit | None, taken: Taken) -> None:
        """Check the accounts of keys that were granted their tokens; `taken` receives the results of both."""
        by_link: dict[RedisLink | None, list[int]] = {}
        for place, take in enumerate(takes):
            slot = key_slot(account_key(take.record.account_id))
            by_link.setdefault(self._cluster.owner(slot), []).append(place)
        for link, places in by_link.items():
            own = [lookups[place] for place in places], [takes[place] for place in places]
            told = at(places, taken)
            if link is None:
                values = [StoreUnavailable("redis", "no known node has the account's slot")] * len(places)
                asyncio.get_running_loop().call_soon(self._replied, None, *own, default, told, 0, values)
            else:
                self._submit(link, *own, default, told, REDIRECTS_MAX)

    async def put(self, record: AccountRecord, *, epoch: str | None = None) -> bool:
        """Write an account's record unless Redis holds a newer one (`service.ports.KeyProjection`)."""

        async def write_at(link: RedisLink) -> bool:
            current = link.epoch
            if epoch is not None and current not in epoch.split(" "):
                return False
            arguments = (current, record.revision, account_header(current, record), 0, 0)
            return await write(link, _PUT, account_key(record.account_id), arguments, b"")

        written = self._cluster.on_owner(account_key(record.account_id), write_at)
        if record.revision > 1:  # otherwise never changed
            written = noted(written, note_account(self._cluster, record))
        return await written

    def _submit(
        self,
        link: RedisLink,
        lookups: Sequence[Lookup],
        takes: Sequence[Take],
        default: Limit | None,
        taken: Taken,
        tries: int,
    ) -> None:
        limit, epoch = default or NO_LIMIT, link.epoch.encode()
        commands = [
            packed(
                "EVALSHA",
                _CHECK_ACCOUNT.sha,
                "1",
                account_key(take.record.account_id),
                epoch,
                _ASKED.pack(lookup.cost, limit.capacity, limit.refill_per_s),
            )
            for lookup, take in zip(lookups, takes, strict=True)
        ]
        link.submit_all(commands, partial(self._replied, link, lookups, takes, default, taken, tries))

    def _replied(
        self,
        link: RedisLink | None,
        lookups: Sequence[Lookup],
        takes: Sequence[Take],
        default: Limit | None,
        taken: Taken,
        tries: int,
        values: Sequence[Any],
    ) -> None:
        replies: dict[int, TakeReply] = {}
        for place, value in enumerate(values):
            lookup, take = lookups[place], takes[place]
            result = failure(value) if isinstance(value, hiredis.ReplyError) else value
            elsewhere = self._elsewhere(link, value, result) if tries else None
            if elsewhere is not None:
                self._submit(elsewhere, [lookup], [take], default, at([place], taken), tries - 1)
                continue
            if isinstance(result, StoreUnavailable):
                self._cluster.doubt()
            reply = replies[place] = _whole(take, result)
            if not isinstance(reply, Take) or reply.outcome is not TakeOutcome.GRANTED:
                self._refund(lookup, take)
        if replies:
            taken(list(replies), list(replies.values()))

    def _elsewhere(self, link: RedisLink | None, value: object, result: object) -> RedisLink | None:
        """Return the link over which to repeat a command that had no effect; None if it must not be repeated."""
        if link is not None and is_forgotten(value):
            link.load(_CHECK_ACCOUNT)
            return link
        return self._cluster.follow(result, link) if link is not None and isinstance(result, Redirected) else None

    def _refund(self, lookup: Lookup, take: Take) -> None:
        key, quotas = redis_key(lookup.digest), None if take.bucket is None else take.bucket.limits.quotas
        names = "" if quotas is None else " ".join(it.name for it in quotas.items[1:])
        link = self._cluster.owner(key_slot(key))
        if link is not None:
            further = (further_key(lookup.digest),) if names else ()
            keys = (str(1 + len(further)), key, *further)
            command = packed("EVALSHA", _REFUND.sha, *keys, link.epoch, str(lookup.cost), names)
            link.submit(command, lambda _reply: None)


def _whole(take: Take, value: Any) -> TakeReply:  # noqa: ANN401 -- any reply
    """Return the result of a check from those of its key, which was granted, and of its account."""
    if value is None or isinstance(value, StoreUnavailable):
        return value
    if value == b"g":
        return take
    try:
        outcome = _OUTCOMES[value[:1]]
        if outcome is TakeOutcome.SUSPENDED:
            return Take(outcome, take.record)
        tokens, capacity, refill_per_s = _BUCKET.unpack_from(value, 1)
    except (KeyError, TypeError, error):
        return StoreUnavailable("redis", "a record that cannot be read", transient=False)
    limit, key = Limit(int(capacity), refill_per_s), take.bucket
    quotas = None if key is None else key.limits.quotas
    if quotas is not None:
        quotas = Quotas((*quotas.items, NamedLimit(ACCOUNT_ITEM, limit)), quotas.name)
    if outcome is TakeOutcome.GRANTED and key is not None and key.remaining <= tokens:
        return replace(take, bucket=Bucket(BucketLimits(key.limit, limit, quotas=quotas), key.remaining))
    first = None if key is None else key.limit
    if quotas is not None:
        first, quotas = quotas.items[0].limit, replace(quotas, name=ACCOUNT_ITEM)
    return Take(outcome, take.record, Bucket(BucketLimits(limit, first, is_account=True, quotas=quotas), tokens))


def granted(reply: TakeReply) -> bool:
    """Return whether a key was granted its tokens, so that its account must be checked."""
    return isinstance(reply, Take) and reply.outcome is TakeOutcome.GRANTED
