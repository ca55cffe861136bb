"""Key records and their buckets in Redis: one script per check.

Every change of a record changes its header (`records.py`). For a key in the local cache the script therefore compares
only the header. The connection belongs to `connection/link.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct, error
from sys import intern
from typing import Any, TypeAlias

import hiredis
from msgspec.structs import replace

from authz.adapters.redis.connection.errors import failure, is_forgotten
from authz.adapters.redis.connection.link import Caller, RedisLink, Script
from authz.adapters.redis.leases import acquire_words, acquisition, note_key
from authz.adapters.redis.records import (
    BUCKET_BYTES,
    CHECK,
    CHECK_HEAD,
    OPENING,
    OPENING_HEAD,
    PUT,
    encoded_words,
    header_of,
    key_name,
    record_words,
    redis_key,
    stay_of,
)
from authz.core.check import Bucket, Deny, KeyRecord, KeyState, Lookup, Take, TakeOutcome
from authz.core.decision import conclude
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit
from authz.core.streams import Lease, Opening
from authz.core.value import Value
from authz.service.ports import Taken, TakeReply

OnUse: TypeAlias = Callable[[str], None]
"""Receives the id of a key that was used."""

_CACHED_MAX = 16_384
_ASKED = Struct("<6d")
_BUCKET = Struct("<2d")
# The outcomes by the first byte of a reply: all; those with a bucket; those of a use that must be recorded.
_OUTCOMES = {ord(outcome): outcome for outcome in TakeOutcome}
_FIRST_USES = {ord("G"): TakeOutcome.GRANTED, ord("L"): TakeOutcome.LIMITED}
_BUCKETS = {ord("g"): TakeOutcome.GRANTED, ord("l"): TakeOutcome.LIMITED} | _FIRST_USES
_HEAD_BYTES = 1 + BUCKET_BYTES
_GRANTED = TakeOutcome.GRANTED
_GRANTED_BYTE = ord(_GRANTED)
_NO_LIMIT = Limit(0, 0)
_ANY_BUCKET = Bucket(_NO_LIMIT, 0)
_UNREADABLE = StoreUnavailable("redis", "a record that cannot be read", transient=False)


class _Known(Value):
    """The cache entry of a key: its record, the limit that applies, and the encoded arguments of the check, by cost.

    All keys with the same header share the arguments. `record` is None if the key is not cached.
    """

    record: KeyRecord | None
    limit: Limit
    header: str
    arguments: dict[int, bytes]


class RedisKeys:
    """The projection of key records (`service.ports.KeyProjection`) over one link.

    `on_use` receives the id of a key on its first use in each half minute, in one of all sidecars. `check` and `put`
    are the scripts, or their variants for a `cluster`. In a cluster the leases of an account may be on another node, so
    they are acquired by a separate call.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        negative_ttl_s: float,
        on_use: OnUse = lambda _key_id: None,
        check: Script = CHECK,
        put: Script = PUT,
        cluster: Caller | None = None,
    ) -> None:
        self._link = link
        self._all = cluster or link
        self._leases = cluster is None
        self._check = check
        self._put = put
        self._head = CHECK_HEAD % check.sha.encode()
        self._negative_ttl_s = negative_ttl_s
        self._on_use = on_use
        # The cache is valid in one epoch and for one default limit.
        self._epoch = ""
        self._stranger = _Known(None, _NO_LIMIT, "", {})
        self._known: dict[bytes, _Known] = {}
        self._stopped: dict[bytes, _Known] = {}
        self._arguments: dict[str, dict[int, bytes]] = {}
        self._scopes: dict[str, frozenset[str]] = {}
        self._limits: dict[tuple[str, str], Limit] = {}

    def epoch_of(self, digest: bytes) -> str:  # noqa: ARG002 -- all keys are on one server
        """Return the current epoch of the server; empty while it is unreachable."""
        return self._link.epoch

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        """Write a record unless Redis holds a newer one (`service.ports.KeyProjection`)."""
        current = self._link.epoch
        if epoch is not None and epoch != current:
            return False
        stay = stay_of(record, self._negative_ttl_s)
        arguments = (current, record.revision, header_of(current, record), *stay)
        encoded = (str(argument).encode() for argument in arguments)
        write = self._link.call(self._put, redis_key(digest), *encoded, *record_words(record))
        if record.revision <= 1:  # never changed, or no key at all
            return bool(await write)
        written, _ = await asyncio.gather(write, note_key(self._all, record))
        return bool(written)

    def take(self, lookups: Sequence[Lookup], default: Limit, taken: Taken, *, is_second: bool = False) -> None:
        """Look up keys and charge their buckets (`service.ports.KeyProjection`).

        `is_second` marks the repetition after Redis did not know the script.
        """
        stranger = self._stranger
        if stranger.limit is not default or self._epoch is not self._link.epoch:
            stranger = self._begin_to_remember(default)
        head, known_of = self._head, self._known.get
        known: list[_Known] = []
        commands: list[bytes] = []
        for lookup in lookups:
            found = known_of(lookup.digest, stranger)
            known.append(found)
            arguments = found.arguments.get(lookup.cost) or self._arguments_for(found, lookup.cost, default)
            if lookup.opening is None:
                commands.append(head + key_name(lookup.digest) + arguments)
            else:
                commands.append(self._opening(lookup, lookup.opening, found, arguments))
        self._link.submit_all(commands, partial(self._replied, lookups, known, default, taken, is_second))

    def _arguments_for(self, known: _Known, cost: int, default: Limit) -> bytes:
        expires_at_ms = 0 if known.record is None else known.record.expires_at_ms
        limits = (known.limit.capacity, known.limit.refill_per_s, default.capacity, default.refill_per_s)
        asked = _ASKED.pack(cost, expires_at_ms, *limits)
        written = b"\r\n" + encoded_words(self._link.epoch.encode(), known.header.encode() + b"\n", asked)
        return known.arguments.setdefault(cost, written)

    def _opening(self, lookup: Lookup, opening: Opening, known: _Known, arguments: bytes) -> bytes:
        """Return the command for a stream; it acquires the lease if a cached record may use the route."""
        record = known.record if self._leases else None
        if record is None or isinstance(conclude(lookup, Take(_GRANTED, record, _ANY_BUCKET)), Deny):
            return self._head + key_name(lookup.digest) + arguments
        lease = Lease(opening.request_id, record.account_id, record.key_id, opening.stream.name)
        keys, words = acquire_words(lease, opening.stream, opening.pending_s)
        head = OPENING_HEAD + key_name(lookup.digest) + b"\r\n"
        return head + encoded_words(*keys) + arguments[2:] + encoded_words(*words)

    def _replied(
        self,
        lookups: Sequence[Lookup],
        known: Sequence[_Known],
        default: Limit,
        taken: Taken,
        is_second: bool,  # noqa: FBT001 -- bound by `take`
        values: Sequence[Any],
    ) -> None:
        replies: list[TakeReply] = []
        for lookup, found, value in zip(lookups, known, values, strict=True):
            record = found.record
            is_usual = type(value) is bytes and len(value) == _HEAD_BYTES and value[0] == _GRANTED_BYTE
            if is_usual and record is not None:  # a token was granted to a cached key
                replies.append(Take(_GRANTED, record, Bucket(found.limit, _BUCKET.unpack_from(value, 1)[0])))
            else:
                replies.append(self._other(lookup, found, default, value))
        forgotten: list[int] = []
        if hiredis.ReplyError in map(type, values) and not is_second:
            forgotten = [place for place, value in enumerate(values) if is_forgotten(value)]
        if not forgotten:
            taken(range(len(replies)), replies)
            return
        for script in (self._check, OPENING) if self._leases else (self._check,):
            self._link.load(script)
        self.take([lookups[place] for place in forgotten], default, at(forgotten, taken), is_second=True)
        answered = [place for place in range(len(replies)) if place not in forgotten]
        taken(answered, [replies[place] for place in answered])

    def _other(self, lookup: Lookup, known: _Known, default: Limit, value: Any) -> TakeReply:  # noqa: ANN401 -- any reply
        if isinstance(value, bytes):
            return self._take(lookup, known, default, value)
        if not isinstance(value, list):
            return failure(value) if isinstance(value, hiredis.ReplyError) else value
        take = self._take(lookup, known, default, value[0])
        try:
            return replace(take, acquired=acquisition(value[1:])) if isinstance(take, Take) else take
        except (ValueError, TypeError):
            return _UNREADABLE

    def _take(self, lookup: Lookup, known: _Known, default: Limit, value: bytes) -> TakeReply:
        try:
            letter = value[0]
            outcome = _BUCKETS.get(letter)
            if outcome is None or len(value) > _HEAD_BYTES:
                told = value[1 if outcome is None else _HEAD_BYTES :]
                known = self._remember(lookup.digest, told, default) if told else known
            record = known.record
            if record is None:  # a reply without its record
                return _UNREADABLE
            if outcome is None:
                return Take(_OUTCOMES[letter], record)
            if letter in _FIRST_USES:
                self._on_use(record.key_id)
            return Take(outcome, record, Bucket(known.limit, _BUCKET.unpack_from(value, 1)[0]))
        except (KeyError, ValueError, IndexError, error):
            return _UNREADABLE

    def _remember(self, digest: bytes, told: bytes, default: Limit) -> _Known:
        """Parse a header and a record; raises ValueError. An active key stays in the cache until its header changes."""
        found = self._stopped.get(told)
        if found is not None:
            return found
        if len(self._known) + len(self._stopped) >= _CACHED_MAX:
            self._forget()
        header, _, text = told.decode().partition("\n")
        header = intern(header)
        _epoch, revision, state, expires_at_ms, capacity, refill = header.split(" ")
        key_id, _, rest = text.partition(" ")
        account_id, _, scopes = rest.partition(" ")
        record = KeyRecord(
            state=KeyState(state),
            revision=int(revision),
            key_id=key_id,
            # Keys share equal values to save memory.
            account_id=intern(account_id),
            scopes=self._scopes.get(scopes) or self._scopes.setdefault(scopes, frozenset(scopes.split())),
            limit=None if capacity == "-" else self._limit(capacity, refill),
            expires_at_ms=int(expires_at_ms),
        )
        known = _Known(record, record.limit or default, header, self._arguments.setdefault(header, {}))
        if record.state is KeyState.ACTIVE:
            self._known[digest] = known
        else:
            self._stopped[told] = known  # all unknown keys share one entry
        return known

    def _begin_to_remember(self, default: Limit) -> _Known:
        self._forget()
        self._epoch, self._stranger = self._link.epoch, _Known(None, default, "", {})
        return self._stranger

    def _forget(self) -> None:
        for memory in (self._known, self._stopped, self._arguments, self._scopes, self._limits):
            memory.clear()

    def _limit(self, capacity: str, refill: str) -> Limit:
        found = self._limits.get((capacity, refill))
        return found or self._limits.setdefault((capacity, refill), Limit(int(capacity), float(refill)))


def at(places: Sequence[int], taken: Taken) -> Taken:
    """Return a callback that maps the indexes of a partial call to `places`, the indexes of the whole call."""
    return lambda answered, replies: taken([places[number] for number in answered], replies)
