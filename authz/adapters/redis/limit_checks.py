"""Checks of keys that may have further buckets: limits by plan, several windows, and limits of rows.

Each check is one script that takes from all buckets or from none (`lua/limits.lua`); checks that arrive together share
one. The buckets follow from the key's record, so a record that is not in the cache is read first. Checks of a usual
bucket only belong to `checks.py`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from struct import Struct
from typing import Any, TypeAlias

import hiredis
from msgspec.structs import replace

from authz.adapters.clock_skew import OnSkew
from authz.adapters.redis.connection.errors import failure, is_forgotten
from authz.adapters.redis.connection.link import RedisLink
from authz.adapters.redis.connection.scripts import packed
from authz.adapters.redis.known import Known, KnownKeys
from authz.adapters.redis.leases import acquire_words, acquisition
from authz.adapters.redis.limit_buckets import Applied, applied
from authz.adapters.redis.records import LimitScripts, account_key, further_key, redis_key
from authz.core.check import Bucket, Deny, Lookup, Take, TakeOutcome
from authz.core.decision import conclude
from authz.core.errors import StoreUnavailable
from authz.core.limits import NO_LIMIT, KeyLimits, Limit, NamedLimit
from authz.core.streams import Lease
from authz.core.value import Value
from authz.service.ports import Taken, TakeReply

TRIES_MAX = 6
"""How often a check may be sent: to read the record, to take, and again where the record or the scripts changed."""

TOGETHER_MAX = 32
"""How many checks share a script: Redis answers nobody else meanwhile."""

_REPLY = Struct("<BB2d")
_OUTCOMES = {ord(it): it for it in (TakeOutcome.GRANTED, TakeOutcome.LIMITED)}
_KNOWN_BYTE, _EXPIRED_BYTE, _CHANGED_BYTE = b"kex"
_LOWER = 0x20
_APPLIED_MAX = 16_384
_NO_ROW: tuple[NamedLimit, ...] = ()
_ANY_BUCKET = Bucket.of(NO_LIMIT, 0)
_UNREADABLE = StoreUnavailable("redis", "a record that cannot be read", transient=False)
_UNSETTLED = StoreUnavailable("redis", "a record that changes again and again")

OnLate: TypeAlias = Callable[[bytes, Take | None], None]
"""Receives the digest of a key and the reply to its check that came after the deadline; None if its record changed."""

Usual: TypeAlias = Callable[..., None]
"""Makes checks of a usual bucket only."""


class _Check(Value):
    """One check of a command: its index in the call, and what is known of its key."""

    index: int
    lookup: Lookup
    known: Known
    buckets: Applied | None


class LimitChecks:
    """Looks up keys and charges all their buckets. `cache` is that of all checks over the link."""

    def __init__(
        self,
        link: RedisLink,
        scripts: LimitScripts,
        cache: KnownKeys,
        *,
        has_accounts: bool,
        usual: Usual,
        on_use: Callable[[str], None],
        on_skew: OnSkew,
        on_late: OnLate | None = None,
    ) -> None:
        self._link = link
        self._scripts = scripts
        self._cache = cache
        self._has_accounts = has_accounts
        self._usual = usual
        self._on_use = on_use
        self._on_skew = on_skew
        self._on_late = on_late

    def take(
        self,
        lookups: Sequence[Lookup],
        default: Limit,
        taken: Taken,
        *,
        account: Limit | None,
        limits: KeyLimits,
        tries: int = TRIES_MAX,
        is_second: bool = False,
    ) -> None:
        """Look up keys and charge their buckets (`service.ports.KeyProjection`)."""
        self._cache.fit(self._link.epoch, default, account, limits)
        is_single = limits.is_single
        usual: list[int] = []
        checks: list[_Check] = []
        for index, lookup in enumerate(lookups):
            row = _NO_ROW if lookup.route is None else lookup.route.limits
            if is_single and not row:
                usual.append(index)
                continue
            known = self._cache.active.get(lookup.digest, self._cache.stranger)
            checks.append(_Check(index, lookup, known, self._buckets(limits, lookup, known, row)))
        if usual:
            told = at(usual, taken)
            own = [lookups[index] for index in usual]
            self._usual(own, default, told, account=account, limits=limits, is_second=is_second)
        if checks:
            sent = list(self._divided(checks))
            again = partial(self.take, default=default, account=account, limits=limits)
            commands = [self._command(part) for part in sent]
            late = None if self._on_late is None else partial(self._came_late, self._on_late, sent)
            self._link.submit_all(commands, partial(self._replied, sent, taken, again, tries - 1), late)

    def _buckets(self, limits: KeyLimits, lookup: Lookup, known: Known, row: tuple[NamedLimit, ...]) -> Applied | None:
        """Return the buckets of a check; None if they cannot be known before the record is read."""
        record = known.record
        if record is None:
            return None
        of_key, of_account = known.of_key, known.of_account
        key = (of_key.text, of_account.text, record.plan, id(row), lookup.cost)
        found = self._cache.applied.get(key)
        if found is None or found.row is not row:
            account_header = of_account.text.encode() + b"\n" if self._has_accounts else b""
            headers = of_key.text.encode() + b"\n", account_header
            account = of_account.limit if self._has_accounts else None
            if len(self._cache.applied) >= _APPLIED_MAX:
                self._cache.applied.clear()
            found = applied(limits, record, row, lookup.cost, headers=headers, account=account)
            self._cache.applied[key] = found
        return found

    def _divided(self, checks: Sequence[_Check]) -> Iterator[list[_Check]]:
        """Divide checks into commands. Those of the same buckets are together; one that opens a stream is alone."""
        together: list[_Check] = []
        for check in checks:
            is_shared = check.buckets is not None and check.lookup.opening is None and self._has_accounts
            if not is_shared:
                yield [check]
            else:
                together.append(check)
        together.sort(key=lambda check: id(check.buckets))
        for start in range(0, len(together), TOGETHER_MAX):
            yield together[start : start + TOGETHER_MAX]

    def _command(self, checks: Sequence[_Check]) -> bytes:
        first = checks[0]
        if first.buckets is None:
            flag = b"1" if self._has_accounts else b"0"
            epoch = self._cache.epoch.encode() + b"\n"
            return packed("EVALSHA", self._scripts.look.sha, "1", redis_key(first.lookup.digest), epoch, flag)
        opening = self._opening(first, first.buckets)
        if opening is not None:
            return opening
        keys: list[bytes] = []
        groups: list[tuple[Applied, list[_Check]]] = []
        for check in checks:
            keys += self._keys(check)
            if check.buckets is not None and (not groups or groups[-1][0] is not check.buckets):
                groups.append((check.buckets, []))
            groups[-1][1].append(check)
        words = [word for buckets, same in groups for word in (*buckets.words, b"%d" % len(same))]
        return packed("EVALSHA", self._scripts.take.sha, str(len(keys)), *keys, *words)

    def _opening(self, check: _Check, buckets: Applied) -> bytes | None:
        """Return the command of a check that also acquires a lease; None if it opens no stream."""
        opening, record, script = check.lookup.opening, check.known.record, self._scripts.opening
        if opening is None or record is None or script is None:
            return None
        if isinstance(conclude(check.lookup, Take(TakeOutcome.GRANTED, record, _ANY_BUCKET)), Deny):
            return None
        lease = Lease(opening.request_id, record.account_id, record.key_id, opening.stream.name)
        lease_keys, words = acquire_words(lease, opening.stream, opening.pending_s, self._link.data_mark)
        key, account, further = self._keys(check)
        keys = (key, account, *lease_keys, further)
        return packed("EVALSHA", script.sha, str(len(keys)), *keys, *buckets.words, b"1", *words)

    def _keys(self, check: _Check) -> tuple[bytes, ...]:
        digest, record = check.lookup.digest, check.known.record
        if not self._has_accounts or record is None:
            return redis_key(digest), further_key(digest)
        return redis_key(digest), account_key(record.account_id), further_key(digest)

    def _replied(
        self,
        sent: Sequence[Sequence[_Check]],
        taken: Taken,
        again: Callable[..., None],
        tries: int,
        values: Sequence[Any],
    ) -> None:
        replies: dict[int, TakeReply] = {}
        repeated: list[_Check] = []
        if any(map(is_forgotten, values)):
            for script in self._scripts.all:
                self._link.load(script)
        for checks, value in zip(sent, values, strict=True):
            if is_forgotten(value):
                repeated += checks
                continue
            for check, reply in zip(checks, self._found(checks, value), strict=True):
                if isinstance(reply, Known):
                    repeated.append(check)
                else:
                    replies[check.index] = reply
        if repeated and tries <= 0:
            replies |= {check.index: _UNSETTLED for check in repeated}
        elif repeated:
            told = at([check.index for check in repeated], taken)
            again([check.lookup for check in repeated], taken=told, tries=tries)
        if replies:
            taken(list(replies), list(replies.values()))

    def _came_late(self, on_late: OnLate, sent: Sequence[Sequence[_Check]], start: int, values: Sequence[Any]) -> None:
        for checks, value in zip(sent[start:], values, strict=True):
            for check, reply in zip(checks, self._found(checks, value), strict=True):
                if isinstance(reply, Take):
                    on_late(check.lookup.digest, reply)
                elif isinstance(reply, Known) and check.buckets is not None:
                    on_late(check.lookup.digest, None)  # its record has changed

    def _found(self, checks: Sequence[_Check], value: Any) -> Sequence[TakeReply | Known]:  # noqa: ANN401 -- any reply
        """Read the replies to the checks of one command; a `Known` is the entry with which to repeat a check."""
        return [self._looked(checks[0], value)] if checks[0].buckets is None else self._read(checks, value)

    def _looked(self, check: _Check, value: Any) -> TakeReply | Known:  # noqa: ANN401 -- any reply
        """Read the reply to a look: that to the check, or the record with which to repeat it."""
        if not isinstance(value, bytes):
            if value is None:
                self._cache.forget(check.lookup.digest, check.known)
            return failure(value) if isinstance(value, hiredis.ReplyError) else value
        try:
            found = self._cache.remember(check.lookup.digest, value[1:])
            if value[0] == _KNOWN_BYTE:
                return found
            outcome = TakeOutcome(value[:1].decode())
        except (ValueError, IndexError):
            return _UNREADABLE
        return _UNREADABLE if found.record is None else Take(outcome, found.record)

    def _read(self, checks: Sequence[_Check], value: Any) -> Sequence[TakeReply | Known]:  # noqa: ANN401 -- any reply
        """Read the replies to checks that shared a script; a `Known` is the entry of a key that has changed."""
        if isinstance(value, list):
            try:
                take = self._read(checks, value[0])[0]
                return [replace(take, acquired=acquisition(value[1:])) if isinstance(take, Take) else take]
            except (ValueError, TypeError, IndexError):
                return [_UNREADABLE]
        if not isinstance(value, bytes) or len(value) != len(checks) * _REPLY.size:
            failed = failure(value) if isinstance(value, hiredis.ReplyError) else value
            return [failed if isinstance(failed, StoreUnavailable) else _UNREADABLE] * len(checks)
        return [self._one(check, reply) for check, reply in zip(checks, _REPLY.iter_unpack(value), strict=True)]

    def _one(self, check: _Check, reply: tuple[int, int, float, float]) -> TakeReply | Known:
        letter, index, tokens, at_us = reply
        known, buckets, record = check.known, check.buckets, check.known.record
        if letter == _CHANGED_BYTE:
            self._cache.forget(check.lookup.digest, known)
            return known
        outcome = _OUTCOMES.get(letter | _LOWER)
        if record is None or buckets is None:
            return _UNREADABLE
        if letter == _EXPIRED_BYTE or 0 < record.expires_at_ms <= time.time() * 1000:  # by one of the clocks
            return Take(TakeOutcome.EXPIRED, record)
        if outcome is None or not 0 < index <= len(buckets.shown):
            return _UNREADABLE
        if not letter & _LOWER:
            self._on_use(record.key_id)
            self._on_skew(at_us / 1_000_000 - time.time())
        return Take(outcome, record, buckets.bucket(index, tokens))


def at(indices: Sequence[int], taken: Taken) -> Taken:
    """Return a callback that maps the indexes of a partial call to `indices`, those of the whole call."""
    return lambda answered, replies: taken([indices[number] for number in answered], replies)
