"""Key records and their buckets in Redis: one hash per key, one script per check.

    k:<digest, base64>   h  header: "EPOCH REVISION STATE EXPIRES_AT_MS CAPACITY REFILL_PER_S", "-" for the default
                         b  bucket: "TOKENS AT_US"
                         0… record: "KEY_ID ACCOUNT_ID SCOPE SCOPE…", in chunks

No field is longer than 64 bytes, so that Redis keeps the hash in its compact encoding: half the memory. The connection
is `redis_link.py`; the scripts in `lua/` say what happens on the server.
"""

import asyncio
from binascii import b2a_base64
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from sys import intern
from typing import Any, TypeAlias

from authz.adapters.redis_leases import note_key
from authz.adapters.redis_link import Caller, RedisLink, Script
from authz.adapters.redis_replies import failure, is_forgotten
from authz.core.check import Bucket, KeyRecord, KeyState, Lookup, Take, TakeOutcome
from authz.core.errors import StoreUnavailable
from authz.core.limits import Limit
from authz.service.ports import TakeReply

RECORD_TTL_S = 86_400
"""How long a record lives after its last use, at least; check.lua adds what a slow bucket needs to fill."""

OnUse: TypeAlias = Callable[[str], None]
"""Told the id of a key that was used."""

_CHUNK_BYTES = 64
_CHUNKS_MAX = 4
_CACHED_MAX = 16_384
_BUCKETS = b"gl"  # the outcomes that come with one
_FIRST_USES = b"GL"  # the same, for a use that has to be noted
_OUTCOMES = {outcome.value.encode(): outcome for outcome in TakeOutcome}

CHECK, PUT = (Script(files("authz.adapters").joinpath("lua", name).read_bytes()) for name in ("check.lua", "put.lua"))

# EVALSHA with one key of 45 bytes and five arguments, up to the key's own 43 characters.
_CHECK_HEAD = b"*9\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n1\r\n$45\r\nk:"


class RedisKeys:
    """The projection of key records (`service.ports.KeyProjection`) over one link.

    `on_use` is told a key's id on its first use in each half minute, by one of all sidecars: often enough to know when
    a key was last used, and too seldom to cost a check anything. `check` and `put` are the scripts, or what stands for
    them in a `cluster`, where what is kept by account may be at another node.
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
        self._check = check
        self._put = put
        self._head = _CHECK_HEAD % check.sha.encode()
        self._negative_ttl_s = negative_ttl_s
        self._on_use = on_use
        self._records: dict[bytes, KeyRecord] = {}
        self._scopes: dict[str, frozenset[str]] = {}
        self._limits: dict[tuple[str, str], Limit] = {}
        # The arguments of the check by cost, for one epoch and default limit.
        self._tails: dict[int, bytes] = {}
        self._tails_are_for: tuple[str, Limit] | None = None

    def epoch_of(self, digest: bytes) -> str:  # noqa: ARG002 -- all keys are on one server
        """Name the server's present life; empty while it is out of reach."""
        return self._link.epoch

    def take(self, lookup: Lookup, default: Limit, reply: Callable[[TakeReply], None]) -> None:
        """Look a key up and take its cost from its bucket, in one call (`service.ports.KeyProjection`)."""
        self._link.submit(self._command(lookup, default), partial(self._taken, lookup, default, reply))

    async def put(self, digest: bytes, record: KeyRecord, *, epoch: str | None = None) -> bool:
        """Write a record unless a newer one is there (`service.ports.KeyProjection`)."""
        current = self._link.epoch
        if epoch is not None and epoch != current:
            return False
        ttl_s = self._negative_ttl_s if record.state is KeyState.UNKNOWN else RECORD_TTL_S
        arguments = (current, record.revision, _header(current, record), int(ttl_s * 1000))
        encoded = (str(argument).encode() for argument in arguments)
        write = self._link.call(self._put, redis_key(digest), *encoded, *_chunks(record))
        if record.revision <= 1:  # never stopped, or no key at all
            return bool(await write)
        written, _ = await asyncio.gather(write, note_key(self._all, record))
        return bool(written)

    def _command(self, lookup: Lookup, default: Limit) -> bytes:
        applies = (self._link.epoch, default)
        if applies != self._tails_are_for:
            self._tails_are_for = applies
            self._tails.clear()
        return self._head + _name(lookup.digest) + (self._tails.get(lookup.cost) or self._tail(lookup.cost, default))

    def _tail(self, cost: int, default: Limit) -> bytes:
        arguments = (self._link.epoch, cost, default.capacity, default.refill_per_s, RECORD_TTL_S * 1000)
        encoded = (str(argument).encode() for argument in arguments)
        tail = b"\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in encoded)
        return self._tails.setdefault(cost, tail)

    def _taken(self, lookup: Lookup, default: Limit, reply: Callable[[TakeReply], None], value: Any) -> None:  # noqa: ANN401 -- any reply
        if isinstance(value, bytes):
            reply(self._take(default, value))
        elif is_forgotten(value):
            self._link.load(self._check)
            self._link.submit(self._command(lookup, default), lambda again: reply(self._told(default, again)))
        else:
            reply(self._told(default, value))

    def _told(self, default: Limit, value: Any) -> TakeReply:  # noqa: ANN401 -- any reply
        if isinstance(value, bytes):
            return self._take(default, value)
        return value if value is None or isinstance(value, StoreUnavailable) else failure(value)

    def _take(self, default: Limit, value: bytes) -> TakeReply:
        taken, _, body = value.partition(b"\n")
        letter = taken[:1]
        try:
            record = self._records.get(body) or self._record(body)
            if letter not in _BUCKETS:
                if letter not in _FIRST_USES:
                    return Take(_OUTCOMES[letter], record)
                self._on_use(record.key_id)
                letter = letter.lower()
            return Take(_OUTCOMES[letter], record, Bucket(record.limit or default, float(taken[2:])))
        except (KeyError, ValueError):
            return StoreUnavailable("redis", "a record that cannot be read", transient=False)

    def _record(self, body: bytes) -> KeyRecord:
        """Parse a record once for all checks that get the same bytes; raises ValueError."""
        if len(self._records) >= _CACHED_MAX:
            for cache in (self._records, self._scopes, self._limits):
                cache.clear()
        header, _, text = body.decode().partition("\n")
        _epoch, revision, state, expires_at_ms, capacity, refill = header.split(" ")
        key_id, _, rest = text.partition(" ")
        account_id, _, scopes = rest.partition(" ")
        record = KeyRecord(
            state=KeyState(state),
            revision=int(revision),
            key_id=key_id,
            # What many keys have in common is kept once.
            account_id=intern(account_id),
            scopes=self._scopes.get(scopes) or self._scopes.setdefault(scopes, frozenset(scopes.split())),
            limit=None if capacity == "-" else self._limit(capacity, refill),
            expires_at_ms=int(expires_at_ms),
        )
        return self._records.setdefault(body, record)

    def _limit(self, capacity: str, refill: str) -> Limit:
        found = self._limits.get((capacity, refill))
        return found or self._limits.setdefault((capacity, refill), Limit(int(capacity), float(refill)))


def redis_key(digest: bytes) -> bytes:
    """Return the key of the hash that holds a key's record and its bucket."""
    return b"k:" + _name(digest)


def _name(digest: bytes) -> bytes:
    return b2a_base64(digest, newline=False)[:43]


def _header(epoch: str, record: KeyRecord) -> str:
    limit = "- -" if record.limit is None else f"{record.limit.capacity} {record.limit.refill_per_s!r}"
    return f"{epoch} {record.revision} {record.state} {record.expires_at_ms} {limit}"


def _chunks(record: KeyRecord) -> list[bytes]:
    if record.state is KeyState.UNKNOWN:
        return []
    text = " ".join((record.key_id, record.account_id, *sorted(record.scopes))).encode()
    starts = [_CHUNK_BYTES * number for number in range(_CHUNKS_MAX)]
    ends: list[int | None] = [*starts[1:], None]  # the last chunk takes whatever is left
    return [text[start:end] for start, end in zip(starts, ends, strict=True) if start < len(text)]
