"""The local cache of key records: what a sidecar knows of a key before it asks Redis, and the arguments that it sends.

An entry is valid as long as the headers in Redis are the same, which the script compares. `keys.py` sends the commands.
"""

from collections.abc import Callable
from struct import Struct
from sys import intern

from authz.adapters.redis.limit_buckets import Applied
from authz.adapters.redis.records import PLAN_MARK, account_key, encoded_key, encoded_words
from authz.core.check import BucketLimits, KeyRecord, KeyState
from authz.core.limits import NO_LIMIT, KeyLimits, Limit
from authz.core.value import Value, force_setattr

_CACHED_MAX = 16_384
_ALONE, _OF_KEY, _OF_ACCOUNT = Struct("<10d"), Struct("<4d"), Struct("<2d")
_UNKNOWN_HEADER = "-"


class KeyHeader(Value):
    """What the header of a key says, parsed once for all keys that have the same one.

    `own` is None if the policy's limit applies. `arguments` are the encoded arguments of check_many.lua by the cost of
    the check, `usual` those of cost 1.
    """

    text: str
    state: KeyState
    revision: int
    expires_at_ms: int
    own: Limit | None
    limit: Limit
    arguments: dict[int, bytes]
    usual: bytes = b""


class AccountHeader(Value):
    """What the header of an account says, parsed once for all accounts that have the same one.

    `limit` is None if accounts have no bucket. `argument` is the encoded argument of check_many.lua, and `alone` holds
    all arguments of check.lua by the header of the key and the cost.
    """

    text: str
    limit: Limit | None
    argument: bytes
    alone: dict[tuple[str, int], bytes]


class Known(Value):
    """The cache entry of a key: its record, the encoded Redis keys of key and account, and what their headers say.

    It is small and shares what it can: with thousands of keys, all that is read of one key alone is a cache miss.
    `record` is None, and `keys` are empty, if the key is not cached; in a cluster `keys` are empty, too. `shown` are
    the limits of both, for when the bucket of the key is the one to show.
    """

    record: KeyRecord | None
    keys: bytes
    of_key: KeyHeader
    of_account: AccountHeader
    shown: BucketLimits


_NO_HEADERS = KeyHeader("", KeyState.UNKNOWN, 0, 0, None, NO_LIMIT, {}), AccountHeader("", None, b"", {})
_NOTHING_SHOWN = BucketLimits(NO_LIMIT)


class KnownKeys:
    """The entries of one epoch and one policy's limits. `has_accounts` is False in a cluster.

    `on_unknown_plan` is called for each record that is read whose plan the policy does not have.
    """

    def __init__(self, *, has_accounts: bool, on_unknown_plan: Callable[[], None] = lambda: None) -> None:
        self._has_accounts = has_accounts
        self._on_unknown_plan = on_unknown_plan
        self.epoch = ""
        self.limit = NO_LIMIT
        self.account_limit: Limit | None = None
        self.limits: KeyLimits | None = None
        self.applied: dict[tuple[str, str, str, int, int], Applied] = {}
        self.stranger = Known(None, b"", *_NO_HEADERS, _NOTHING_SHOWN)
        self.no_account = b""
        self.active: dict[bytes, Known] = {}
        self._count = 0
        self._stopped: dict[bytes, Known] = {}
        self._key_headers: dict[str, KeyHeader] = {}
        self._account_headers: dict[str, AccountHeader] = {}
        self._scopes: dict[str, frozenset[str]] = {}
        self._limits: dict[tuple[str, str], Limit] = {}
        self._accounts: dict[str, bytes] = {}
        # By the headers of key and account, and whether the account's bucket is shown.
        self._shown: dict[tuple[str, str, bool], BucketLimits] = {}

    def fit(self, epoch: str, limit: Limit, account_limit: Limit | None, limits: KeyLimits | None) -> None:
        """Drop all entries if they are of another epoch or of other limits than these, and continue with these."""
        is_same = self.limit is limit and self.account_limit is account_limit and self.limits is limits
        if is_same and self.epoch is epoch:
            return
        self._drop()
        self.epoch, self.limit, self.account_limit, self.limits = epoch, limit, account_limit, limits
        # No account has this key, and no string begins with this header.
        self.no_account = self._account("")
        of_key = KeyHeader(epoch, KeyState.UNKNOWN, 0, 0, None, limit, {})
        of_account = AccountHeader(_UNKNOWN_HEADER, account_limit, b"", {})
        self.stranger = Known(None, b"", of_key, of_account, _NOTHING_SHOWN)

    def alone(self, known: Known, cost: int) -> bytes:
        """Return the encoded arguments of a check of its own (check.lua)."""
        of_key, of_account = known.of_key, known.of_account
        found = of_account.alone.get((of_key.text, cost))
        if found is None:
            limits = (of_key.limit, of_account.limit, self.limit, self.account_limit)
            numbers = (number for limit in limits for number in _numbers(limit))
            asked = _ALONE.pack(cost, of_key.expires_at_ms, *numbers)
            found = encoded_words(of_key.text.encode() + b"\n", of_account.text.encode() + b"\n", asked)
            of_account.alone[of_key.text, cost] = found
        return found

    def remember(self, digest: bytes, changed: bytes) -> Known:
        """Parse the headers and the record of a reply; raises ValueError. Only an active key stays in the cache."""
        found = self._stopped.get(changed)
        if found is not None:
            self.active.pop(digest, None)
            return found
        # Counts replies, not entries: a key that changes again and again adds to every memory but `active`.
        if self._count >= _CACHED_MAX:
            self._drop()
        self._count += 1
        header, text, account_header = (*changed.decode().split("\n"), "", "")[:3]
        of_key = self._key_headers.get(header) or self._key_header(header)
        # A key that has expired is refused before its account is read.
        account_header = account_header or _UNKNOWN_HEADER
        of_account = self._account_headers.get(account_header) or self._account_header(account_header)
        key_id, _, rest = text.partition(" ")
        account_id, _, scopes = rest.partition(" ")
        scopes, _, plan = scopes.partition(PLAN_MARK)
        if plan and (self.limits is None or plan not in self.limits.plans):
            self._on_unknown_plan()
        record = KeyRecord(
            state=of_key.state,
            revision=of_key.revision,
            key_id=key_id,
            # Keys share equal values to save memory.
            account_id=intern(account_id),
            scopes=self._scopes.get(scopes) or self._scopes.setdefault(scopes, frozenset(scopes.split())),
            limit=of_key.own,
            expires_at_ms=of_key.expires_at_ms,
            plan=intern(plan),
        )
        account = self._account(account_id)
        known = Known(
            record,
            encoded_key(digest) + account if account else b"",
            of_key,
            of_account,
            self._shown_key(of_key, of_account),
        )
        if record.state is KeyState.ACTIVE:
            self.active[digest] = known
        else:
            self.active.pop(digest, None)
            self._stopped[changed] = known  # all unknown keys share one entry
        return known

    def shown_account(self, known: Known) -> BucketLimits:
        """Return the limits of a key where the bucket of its account is shown."""
        of_key, of_account = known.of_key, known.of_account
        if of_account.limit is None:
            return known.shown
        found = self._shown.get((of_key.text, of_account.text, True))
        shown = found or BucketLimits(of_account.limit, of_key.limit, is_account=True)
        return found or self._shown.setdefault((of_key.text, of_account.text, True), shown)

    def forget(self, digest: bytes, known: Known) -> None:
        """Drop the entry of a key unless a newer one has replaced it."""
        if self.active.get(digest) is known:
            del self.active[digest]

    def _key_header(self, text: str) -> KeyHeader:
        _epoch, revision, state, expires_at_ms, capacity, refill = text.split(" ")
        own = None if capacity == "-" else self._limit(capacity, refill)
        of_key = KeyHeader(text, KeyState(state), int(revision), int(expires_at_ms), own, own or self.limit, {})
        force_setattr(of_key, "usual", arguments_for(of_key, 1))
        return self._key_headers.setdefault(text, of_key)

    def _account_header(self, text: str) -> AccountHeader:
        limit = self._account_limit(text)
        argument = encoded_words(_OF_ACCOUNT.pack(*_numbers(limit)) + text.encode() + b"\n")
        return self._account_headers.setdefault(text, AccountHeader(text, limit, argument, {}))

    def _shown_key(self, of_key: KeyHeader, of_account: AccountHeader) -> BucketLimits:
        found = self._shown.get((of_key.text, of_account.text, False))
        shown = found or BucketLimits(of_key.limit, of_account.limit)
        return found or self._shown.setdefault((of_key.text, of_account.text, False), shown)

    def _account(self, account_id: str) -> bytes:
        if not self._has_accounts:
            return b""
        found = self._accounts.get(account_id)
        return found or self._accounts.setdefault(account_id, encoded_words(account_key(account_id)))

    def _account_limit(self, account_header: str) -> Limit | None:
        default = self.account_limit
        if default is None or account_header == _UNKNOWN_HEADER:
            return default
        _epoch, _revision, _state, capacity, refill = account_header.split(" ")
        if capacity == "0":
            return default
        own = self._limit(capacity, refill)
        total = default + own
        return self._limits.setdefault((str(total.capacity), repr(total.refill_per_s)), total)

    def _limit(self, capacity: str, refill: str) -> Limit:
        found = self._limits.get((capacity, refill))
        return found or self._limits.setdefault((capacity, refill), Limit(int(capacity), float(refill)))

    def _drop(self) -> None:
        headers = (self._key_headers, self._account_headers)
        memories = (self.active, self._stopped, *headers, self._scopes, self._limits, self._accounts, self._shown)
        self._count = 0
        for memory in (*memories, self.applied):
            memory.clear()


def arguments_for(of_key: KeyHeader, cost: int) -> bytes:
    """Return the encoded argument of check_many.lua for keys with a header."""
    found = of_key.arguments.get(cost)
    if found is None:
        numbers = _OF_KEY.pack(cost, of_key.expires_at_ms, *_numbers(of_key.limit))
        found = of_key.arguments[cost] = encoded_words(numbers + of_key.text.encode() + b"\n")
    return found


def _numbers(limit: Limit | None) -> tuple[float, float]:
    return (0, 0) if limit is None else (limit.capacity, limit.refill_per_s)
