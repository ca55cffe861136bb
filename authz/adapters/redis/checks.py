"""Checks of keys and their buckets in Redis: the commands of a batch, and the replies to it.

Keys in the local cache (`known.py`) share one script, `check_many.lua`, in which Redis spends half the time that it
needs for one script each; a key that is not in the cache, or opens a stream, has a script of its own. The writes of
records belong to `keys.py`, the connection to `connection/link.py`.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct, error
from typing import Any, TypeAlias

import hiredis
from msgspec.structs import replace

from authz.adapters.clock_skew import ClockSkew, OnSkew
from authz.adapters.redis.connection.errors import failure, is_forgotten
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.known import Known, KnownKeys, arguments_for
from authz.adapters.redis.leases import acquire_words, acquisition
from authz.adapters.redis.limit_checks import LimitChecks, OnLate, at
from authz.adapters.redis.records import (
    CHECK_HEAD,
    CHECK_MANY,
    CLUSTER_CHECK_HEAD,
    OPENING,
    OPENING_HEAD,
    KeyScripts,
    encoded_key,
    encoded_words,
)
from authz.adapters.redis.shared_scripts import Arguments, command, divided
from authz.core.check import Bucket, Deny, Lookup, Take, TakeOutcome
from authz.core.decision import conclude
from authz.core.errors import StoreUnavailable
from authz.core.limits import NO_LIMIT, KeyLimits, Limit
from authz.core.streams import Lease, Opening
from authz.service.ports import Taken, TakeReply

OnUse: TypeAlias = Callable[[str], None]
"""Receives the id of a key that was used."""

_BUCKET, _ONE_OF_MANY = Struct("<2d"), Struct("<B2d")
# The outcomes by the first byte of a reply.
_OUTCOMES = {ord(outcome): outcome for outcome in TakeOutcome}
# With a bucket: the outcome, whether the bucket is the account's, and whether the use must be recorded.
_BUCKETS = {
    ord(letter): (outcome, letter in "hHmM", letter.isupper())
    for outcome, letters in ((TakeOutcome.GRANTED, "gGhH"), (TakeOutcome.LIMITED, "lLmM"))
    for letter in letters
}
_HEAD_BYTES = 1 + _BUCKET.size
_GRANTED = TakeOutcome.GRANTED
_GRANTED_BYTE, _CHANGED_BYTE = ord(_GRANTED), ord("x")
_ANY_BUCKET = Bucket.of(NO_LIMIT, 0)
_Sent: TypeAlias = tuple[Sequence[Lookup], Sequence[Known], Sequence[Sequence[int]]]
_UNREADABLE = StoreUnavailable("redis", "a record that cannot be read", transient=False)


class RedisChecks:
    """Looks up keys and charges their buckets over one link.

    `on_use` receives the id of a key on its first use in each half minute, in one of all sidecars, and `on_skew` the
    difference of the clocks at that time. In a cluster an account may be on another node: its record and its leases are
    not part of the check, and keys share no script.
    """

    def __init__(
        self,
        link: RedisLink,
        scripts: KeyScripts,
        *,
        has_accounts: bool,
        on_use: OnUse,
        on_skew: OnSkew | None = None,
        on_unknown_plan: Callable[[], None] = lambda: None,
        on_late: OnLate | None = None,
    ) -> None:
        self._link = link
        self._has_accounts = has_accounts
        check = scripts.check
        self._scripts = (check, CHECK_MANY, OPENING) if has_accounts else (check,)
        self._head = (CHECK_HEAD if has_accounts else CLUSTER_CHECK_HEAD) % check.sha.encode()
        self._on_use = on_use
        self._on_skew = on_skew or ClockSkew("redis")
        self._on_late = on_late
        self._cache = KnownKeys(has_accounts=has_accounts, on_unknown_plan=on_unknown_plan)
        usual = partial(self.take, is_usual=True)
        self._several = LimitChecks(
            link,
            scripts.limits,
            self._cache,
            has_accounts=has_accounts,
            usual=usual,
            on_use=on_use,
            on_skew=self._on_skew,
            on_late=on_late,
        )

    def take(
        self,
        lookups: Sequence[Lookup],
        default: Limit,
        taken: Taken,
        *,
        account: Limit | None = None,
        limits: KeyLimits | None = None,
        is_usual: bool = False,
        is_second: bool = False,
    ) -> None:
        """Look up keys and charge their buckets (`service.ports.KeyProjection`).

        `is_usual` marks checks without further buckets, `is_second` the repetition after Redis did not know the script.
        """
        if limits is not None and not is_usual:
            self._several.take(lookups, default, taken, account=account, limits=limits, is_second=is_second)
            return
        cache = self._cache
        cache.fit(self._link.epoch, default, account, limits)
        known_of, stranger = cache.active.get, cache.stranger
        known: list[Known] = []
        once: dict[Arguments, int] = {}
        again: defaultdict[Arguments, list[int]] = defaultdict(list)
        commands: list[bytes] = []
        asked: list[Sequence[int]] = []
        for index, lookup in enumerate(lookups):
            found = known_of(lookup.digest, stranger)
            known.append(found)
            if found.keys and lookup.opening is None:
                of_key, cost = found.of_key, lookup.cost
                of_both = of_key.usual if cost == 1 else arguments_for(of_key, cost), found.of_account.argument
                if once.setdefault(of_both, index) != index:
                    again[of_both].append(index)
            else:
                commands.append(self._command(lookup, found))
                asked.append((index,))
        for indices, same in divided(once, again):
            asked.append(indices)
            if len(indices) == 1:
                commands.append(self._command(lookups[indices[0]], known[indices[0]]))
            else:
                keys = [known[index].keys for index in indices]
                commands.append(command(keys, same))
        repeat = partial(self.take, default=default, account=account, limits=limits)
        late = None if self._on_late is None else partial(self._came_late, self._on_late, (lookups, known, asked))
        self._link.submit_all(commands, partial(self._replied, lookups, known, asked, taken, repeat, is_second), late)

    def _command(self, lookup: Lookup, known: Known) -> bytes:
        """Return the command for one check; for a stream it acquires the lease if a cached record may use the route."""
        keys = known.keys or encoded_key(lookup.digest) + self._cache.no_account
        arguments = self._cache.alone(known, lookup.cost)
        opening: Opening | None = lookup.opening
        if opening is None:
            return self._head + keys + arguments
        record = known.record if self._has_accounts else None
        if record is None or isinstance(conclude(lookup, Take(_GRANTED, record, _ANY_BUCKET)), Deny):
            return self._head + keys + arguments
        lease = Lease(opening.request_id, record.account_id, record.key_id, opening.stream.name)
        lease_keys, words = acquire_words(lease, opening.stream, opening.pending_s, self._link.data_mark)
        return OPENING_HEAD + keys + encoded_words(*lease_keys) + arguments + encoded_words(*words)

    def _replied(
        self,
        lookups: Sequence[Lookup],
        known: Sequence[Known],
        asked: Sequence[Sequence[int]],
        taken: Taken,
        again: Callable[..., None],
        is_second: bool,  # noqa: FBT001 -- bound by `partial`
        values: Sequence[Any],
    ) -> None:
        replies: list[TakeReply] = [None] * len(lookups)
        changed: list[int] = []
        forgotten: list[int] = []
        for indices, value in zip(asked, values, strict=True):
            if is_forgotten(value) and not is_second:
                forgotten += indices
            elif len(indices) == 1:
                index = indices[0]
                replies[index] = self._one(lookups[index], known[index], value)
            else:
                changed += self._many(indices, known, value, replies)
        if not forgotten and not changed:
            taken(range(len(replies)), replies)
            return
        for index in changed:
            self._cache.forget(lookups[index].digest, known[index])
        if forgotten:
            for script in self._scripts:
                self._link.load(script)
            again([lookups[index] for index in forgotten], taken=at(forgotten, taken), is_second=True)
        if changed:
            again([lookups[index] for index in changed], taken=at(changed, taken), is_second=is_second)
        waiting = {*forgotten, *changed}
        answered = [index for index in range(len(replies)) if index not in waiting]
        if answered:
            taken(answered, [replies[index] for index in answered])

    def _came_late(self, on_late: OnLate, sent: _Sent, start: int, values: Sequence[Any]) -> None:
        lookups, known, asked = sent
        replies: dict[int, TakeReply] = {}
        for indices, value in zip(asked[start:], values, strict=True):
            if len(indices) == 1:
                replies[indices[0]] = self._one(lookups[indices[0]], known[indices[0]], value)
                continue
            for index in self._many(indices, known, value, replies):
                self._cache.forget(lookups[index].digest, known[index])
                on_late(lookups[index].digest, None)
        for index, reply in replies.items():
            if isinstance(reply, Take):
                on_late(lookups[index].digest, reply)

    def _many(
        self,
        indices: Sequence[int],
        known: Sequence[Known],
        value: object,
        replies: list[TakeReply] | dict[int, TakeReply],
    ) -> list[int]:
        """Note the replies to checks that shared a script; return those whose key is not as in the cache."""
        if not isinstance(value, bytes) or len(value) != len(indices) * _ONE_OF_MANY.size:
            failed = failure(value) if isinstance(value, hiredis.ReplyError) else value
            for index in indices:
                replies[index] = failed if isinstance(failed, StoreUnavailable) else _UNREADABLE
            return []
        changed: list[int] = []
        for index, (letter, tokens, at_us) in zip(indices, _ONE_OF_MANY.iter_unpack(value), strict=True):
            found = known[index]
            record = found.record
            if letter == _GRANTED_BYTE and record is not None and not found.of_key.expires_at_ms:
                replies[index] = Take(_GRANTED, record, Bucket(found.shown, tokens))
            elif letter == _CHANGED_BYTE:
                changed.append(index)
            else:
                replies[index] = self._take(found, letter, tokens, at_us)
        return changed

    def _one(self, lookup: Lookup, known: Known, value: Any) -> TakeReply:  # noqa: ANN401 -- any reply
        if isinstance(value, bytes):
            return self._read(lookup, known, value)
        if not isinstance(value, list):
            if value is None:
                self._cache.forget(lookup.digest, known)
            return failure(value) if isinstance(value, hiredis.ReplyError) else value
        take = self._read(lookup, known, value[0])
        try:
            return replace(take, acquired=acquisition(value[1:])) if isinstance(take, Take) else take
        except (ValueError, TypeError):
            return _UNREADABLE

    def _read(self, lookup: Lookup, known: Known, value: bytes) -> TakeReply:
        try:
            has_bucket = value[0] in _BUCKETS
            changed = value[_HEAD_BYTES if has_bucket else 1 :]
            known = self._cache.remember(lookup.digest, changed) if changed else known
            tokens, at_us = _BUCKET.unpack_from(value, 1) if has_bucket else (0, 0)
            return self._take(known, value[0], tokens, at_us)
        except (ValueError, IndexError, error):
            return _UNREADABLE

    def _take(self, known: Known, letter: int, tokens: float, at_us: float) -> TakeReply:
        """Return the reply from an outcome and, if it has one, its bucket."""
        record, found = known.record, _BUCKETS.get(letter)
        if record is None or (found is None and letter not in _OUTCOMES):  # a reply without its record
            return _UNREADABLE
        if found is None:
            return Take(_OUTCOMES[letter], record)
        outcome, is_account, is_first = found
        if 0 < record.expires_at_ms <= time.time() * 1000:  # by this clock, while that of Redis is late
            return Take(TakeOutcome.EXPIRED, record)
        if is_first:
            self._on_use(record.key_id)
            self._on_skew(at_us / 1_000_000 - time.time())
        shown = self._cache.shown_account(known) if is_account else known.shown
        return Take(outcome, record, Bucket(shown, tokens))
