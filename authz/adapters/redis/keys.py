"""Key records, account records and their buckets in Redis: one script per check.

Every change of a record changes its header (`records.py`). For a key in the local cache (`known.py`) the script
therefore compares only the headers. The connection belongs to `connection/link.py`.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct, error
from typing import Any, TypeAlias

import hiredis
from msgspec.structs import replace

from authz.adapters.redis.clock import OnSkew, SkewWarning
from authz.adapters.redis.connection.errors import failure, is_forgotten
from authz.adapters.redis.connection.link import Caller, RedisLink, Script
from authz.adapters.redis.connection.settling import confirm, until_others_left
from authz.adapters.redis.known import Known, KnownKeys
from authz.adapters.redis.leases import acquire_words, acquisition, note_account, note_key
from authz.adapters.redis.record_writes import noted, write
from authz.adapters.redis.records import (
    BUCKET_BYTES,
    CHECK,
    CHECK_HEAD,
    CLUSTER_CHECK_HEAD,
    OPENING,
    OPENING_HEAD,
    PUT,
    account_header,
    account_key,
    encoded_words,
    header_of,
    key_name,
    record_words,
    redis_key,
    stay_of,
)
from authz.core.check import AccountRecord, Bucket, Deny, KeyRecord, Lookup, Take, TakeOutcome
from authz.core.decision import conclude
from authz.core.errors import StoreUnavailable
from authz.core.limits import NO_LIMIT, Limit
from authz.core.streams import Lease, Opening
from authz.service.ports import Taken, TakeReply

OnUse: TypeAlias = Callable[[str], None]
"""Receives the id of a key that was used."""

_BUCKET = Struct("<2d")
# The outcomes by the first byte of a reply.
_OUTCOMES = {ord(outcome): outcome for outcome in TakeOutcome}
# With a bucket: the outcome, whether the bucket is the account's, and whether the use must be recorded.
_BUCKETS = {
    ord(letter): (outcome, letter in "hHmM", letter.isupper())
    for outcome, letters in ((TakeOutcome.GRANTED, "gGhH"), (TakeOutcome.LIMITED, "lLmM"))
    for letter in letters
}
_HEAD_BYTES = 1 + BUCKET_BYTES
_GRANTED = TakeOutcome.GRANTED
_GRANTED_BYTE = ord(_GRANTED)
_ANY_BUCKET = Bucket(NO_LIMIT, 0)
_UNREADABLE = StoreUnavailable("redis", "a record that cannot be read", transient=False)


class RedisKeys:
    """The projection of key and account records (`service.ports.KeyProjection`) over one link.

    `on_use` receives the id of a key on its first use in each half minute, in one of all sidecars, and `on_skew` the
    difference of the clocks at that time. `check` and `put` are the scripts, or their variants for a `cluster`. There
    an account may be on another node: its record and its leases are not part of the check.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        negative_ttl_s: float,
        on_use: OnUse = lambda _key_id: None,
        on_skew: OnSkew | None = None,
        check: Script = CHECK,
        put: Script = PUT,
        cluster: Caller | None = None,
    ) -> None:
        self._link = link
        self._all = cluster or link
        self._has_accounts = cluster is None
        self._check = check
        self._put = put
        self._head = (CHECK_HEAD if self._has_accounts else CLUSTER_CHECK_HEAD) % check.sha.encode()
        self._negative_ttl_s = negative_ttl_s
        self._on_use = on_use
        self._on_skew = on_skew or SkewWarning()
        self._cache = KnownKeys(has_accounts=self._has_accounts)

    def epoch_of(self, digest: bytes) -> str:  # noqa: ARG002 -- all keys are on one server
        """Return the current epoch of the server; empty while it is unreachable."""
        return self._link.epoch

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        """Write a record unless Redis holds a newer one (`service.ports.KeyProjection`)."""
        current = self._link.epoch
        if epoch is not None and epoch != current:
            return False
        connected_at_s = self._link.connected_at_s
        arguments = (current, record.revision, header_of(current, record), *stay_of(record, self._negative_ttl_s))
        written = write(self._link, self._put, redis_key(digest), arguments, *record_words(record))
        if record.revision > 1:  # otherwise never changed, or no key at all
            written = noted(written, note_key(self._all, record))
        done = await written
        if epoch is None:
            await confirm(self._link, connected_at_s)
        return done

    async def put_account(self, record: AccountRecord, *, epoch: str | None = None) -> bool:
        """Write an account's record unless Redis holds a newer one (`service.ports.KeyProjection`)."""
        current = self._link.epoch
        if epoch is not None and epoch != current:
            return False
        connected_at_s = self._link.connected_at_s
        arguments = (current, record.revision, account_header(current, record), 0, 0)
        written = write(self._link, self._put, account_key(record.account_id), arguments, b"")
        if record.revision > 1:  # otherwise never changed
            written = noted(written, note_account(self._all, record))
        done = await written
        if epoch is None:
            await confirm(self._link, connected_at_s)
        return done

    async def settled(self) -> None:
        """Return when no process uses a former primary (`service.ports.KeyProjection`)."""
        await until_others_left(self._link)

    def take(
        self,
        lookups: Sequence[Lookup],
        default: Limit,
        taken: Taken,
        *,
        account: Limit | None = None,
        is_second: bool = False,
    ) -> None:
        """Look up keys and charge their buckets (`service.ports.KeyProjection`).

        `is_second` marks the repetition after Redis did not know the script.
        """
        cache = self._cache
        if cache.limit is not default or cache.epoch is not self._link.epoch or cache.account_limit is not account:
            cache.begin(self._link.epoch, default, account)
        head, known_of, stranger = self._head, cache.active.get, cache.stranger
        known: list[Known] = []
        commands: list[bytes] = []
        for lookup in lookups:
            found = known_of(lookup.digest, stranger)
            known.append(found)
            arguments = found.arguments.get(lookup.cost) or cache.arguments_for(found, lookup.cost)
            if lookup.opening is None:
                commands.append(head + key_name(lookup.digest) + found.account + arguments)
            else:
                commands.append(self._opening(lookup, lookup.opening, found, arguments))
        again = partial(self.take, default=default, account=account, is_second=True)
        self._link.submit_all(commands, partial(self._replied, lookups, known, taken, None if is_second else again))

    def _opening(self, lookup: Lookup, opening: Opening, known: Known, arguments: bytes) -> bytes:
        """Return the command for a stream; it acquires the lease if a cached record may use the route."""
        record = known.record if self._has_accounts else None
        if record is None or isinstance(conclude(lookup, Take(_GRANTED, record, _ANY_BUCKET)), Deny):
            return self._head + key_name(lookup.digest) + known.account + arguments
        lease = Lease(opening.request_id, record.account_id, record.key_id, opening.stream.name)
        keys, words = acquire_words(lease, opening.stream, opening.pending_s, self._link.data_mark)
        head = OPENING_HEAD + key_name(lookup.digest) + known.account
        return head + encoded_words(*keys) + arguments + encoded_words(*words)

    def _replied(
        self,
        lookups: Sequence[Lookup],
        known: Sequence[Known],
        taken: Taken,
        again: Callable[..., None] | None,
        values: Sequence[Any],
    ) -> None:
        replies: list[TakeReply] = []
        for lookup, found, value in zip(lookups, known, values, strict=True):
            record = found.record
            is_usual = type(value) is bytes and len(value) == _HEAD_BYTES and value[0] == _GRANTED_BYTE
            if is_usual and record is not None and not record.expires_at_ms:  # a token was granted to a cached key
                bucket = Bucket(found.limit, _BUCKET.unpack_from(value, 1)[0], found.account_limit)
                replies.append(Take(_GRANTED, record, bucket))
            else:
                replies.append(self._other(lookup, found, value))
        forgotten: list[int] = []
        if hiredis.ReplyError in map(type, values) and again is not None:
            forgotten = [place for place, value in enumerate(values) if is_forgotten(value)]
        if not forgotten or again is None:
            taken(range(len(replies)), replies)
            return
        for script in (self._check, OPENING) if self._has_accounts else (self._check,):
            self._link.load(script)
        again([lookups[place] for place in forgotten], taken=at(forgotten, taken))
        answered = [place for place in range(len(replies)) if place not in forgotten]
        if answered:
            taken(answered, [replies[place] for place in answered])

    def _other(self, lookup: Lookup, known: Known, value: Any) -> TakeReply:  # noqa: ANN401 -- any reply
        if isinstance(value, bytes):
            return self._take(lookup, known, value)
        if not isinstance(value, list):
            return failure(value) if isinstance(value, hiredis.ReplyError) else value
        take = self._take(lookup, known, value[0])
        try:
            return replace(take, acquired=acquisition(value[1:])) if isinstance(take, Take) else take
        except (ValueError, TypeError):
            return _UNREADABLE

    def _take(self, lookup: Lookup, known: Known, value: bytes) -> TakeReply:
        try:
            found = _BUCKETS.get(value[0])
            changed = value[1 if found is None else _HEAD_BYTES :]
            known = self._cache.remember(lookup.digest, changed) if changed else known
            record = known.record
            if record is None:  # a reply without its record
                return _UNREADABLE
            if found is None:
                return Take(_OUTCOMES[value[0]], record)
            tokens, at_us = _BUCKET.unpack_from(value, 1)
        except (KeyError, ValueError, IndexError, error):
            return _UNREADABLE
        outcome, is_account, is_first = found
        if 0 < record.expires_at_ms <= time.time() * 1000:  # by this clock, while that of Redis is late
            return Take(TakeOutcome.EXPIRED, record)
        if is_first:
            self._on_use(record.key_id)
            self._on_skew(at_us / 1_000_000 - time.time())
        key_limit, account_limit = known.limit, known.account_limit
        if is_account and account_limit is not None:
            return Take(outcome, record, Bucket(account_limit, tokens, key_limit, is_account=True))
        return Take(outcome, record, Bucket(key_limit, tokens, account_limit))


def at(places: Sequence[int], taken: Taken) -> Taken:
    """Return a callback that maps the indexes of a partial call to `places`, the indexes of the whole call."""
    return lambda answered, replies: taken([places[number] for number in answered], replies)
