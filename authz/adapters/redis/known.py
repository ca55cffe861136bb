"""The local cache of key records: what a sidecar knows of a key before it asks Redis, and the arguments that it sends.

An entry is valid as long as the headers in Redis are the same, which the script compares. `keys.py` sends the commands.
"""

from collections.abc import Callable
from struct import Struct
from sys import intern

from authz.adapters.redis.limit_buckets import Applied
from authz.adapters.redis.records import PLAN_MARK, account_key, encoded_key, encoded_words
from authz.core.check import KeyRecord, KeyState
from authz.core.limits import NO_LIMIT, KeyLimits, Limit
from authz.core.value import Value, force_setattr

_CACHED_MAX = 16_384
_ASKED = Struct("<10d")
_UNKNOWN_HEADER = "-"


class Known(Value):
    """The cache entry of a key: its record, the limits that apply, and the encoded arguments of the check, by cost.

    Keys with the same headers of key and account share the arguments. `usual` are those of cost 1, apart because with
    thousands of keys every object on the way to them costs a cache miss. `record` is None if the key is not cached.
    `account_limit` is None if accounts have no bucket; `account` is the encoded Redis key of the account, and `keys`
    those of key and account together. Both are empty in a cluster, and `keys` if the key is not cached.
    """

    record: KeyRecord | None
    limit: Limit
    account_limit: Limit | None
    account: bytes
    keys: bytes
    header: str
    account_header: str
    arguments: dict[int, bytes]
    usual: bytes = b""


_NOBODY = Known(None, NO_LIMIT, None, b"", b"", "", "", {})


class _Headers(Value):
    """What the headers of a key and of its account say, parsed once for all keys that have the same ones."""

    header: str
    account_header: str
    state: KeyState
    revision: int
    expires_at_ms: int
    own: Limit | None
    limit: Limit
    account_limit: Limit | None
    arguments: dict[int, bytes]


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
        self.stranger = _NOBODY
        self.active: dict[bytes, Known] = {}
        self._count = 0
        self._stopped: dict[bytes, Known] = {}
        self._headers: dict[tuple[str, str], _Headers] = {}
        self._scopes: dict[str, frozenset[str]] = {}
        self._limits: dict[tuple[str, str], Limit] = {}
        self._accounts: dict[str, bytes] = {}

    def fit(self, epoch: str, limit: Limit, account_limit: Limit | None, limits: KeyLimits | None) -> None:
        """Drop all entries if they are of another epoch or of other limits than these, and continue with these."""
        is_same = self.limit is limit and self.account_limit is account_limit and self.limits is limits
        if is_same and self.epoch is epoch:
            return
        self._drop()
        self.epoch, self.limit, self.account_limit, self.limits = epoch, limit, account_limit, limits
        # No account has this key, and no string begins with this header.
        self.stranger = Known(None, limit, account_limit, self._account(""), b"", epoch, _UNKNOWN_HEADER, {})
        force_setattr(self.stranger, "usual", self.arguments_for(self.stranger, 1))

    def arguments_for(self, known: Known, cost: int) -> bytes:
        """Return the encoded arguments of a check; keys with the same headers share them."""
        expires_at_ms = 0 if known.record is None else known.record.expires_at_ms
        limits = (known.limit, known.account_limit or NO_LIMIT, self.limit, self.account_limit or NO_LIMIT)
        numbers = (number for limit in limits for number in (limit.capacity, limit.refill_per_s))
        asked = _ASKED.pack(cost, expires_at_ms, *numbers)
        headers = (known.header.encode() + b"\n", known.account_header.encode() + b"\n")
        return known.arguments.setdefault(cost, encoded_words(*headers, asked))

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
        headers = self._headers.get((header, account_header)) or self._parsed(header, account_header)
        key_id, _, rest = text.partition(" ")
        account_id, _, scopes = rest.partition(" ")
        scopes, _, plan = scopes.partition(PLAN_MARK)
        if plan and (self.limits is None or plan not in self.limits.plans):
            self._on_unknown_plan()
        record = KeyRecord(
            state=headers.state,
            revision=headers.revision,
            key_id=key_id,
            # Keys share equal values to save memory.
            account_id=intern(account_id),
            scopes=self._scopes.get(scopes) or self._scopes.setdefault(scopes, frozenset(scopes.split())),
            limit=headers.own,
            expires_at_ms=headers.expires_at_ms,
            plan=intern(plan),
        )
        account = self._account(account_id)
        known = Known(
            record,
            headers.limit,
            headers.account_limit,
            account,
            encoded_key(digest) + account if account else b"",
            headers.header,
            headers.account_header,
            headers.arguments,
        )
        force_setattr(known, "usual", known.arguments.get(1) or self.arguments_for(known, 1))
        if record.state is KeyState.ACTIVE:
            self.active[digest] = known
        else:
            self.active.pop(digest, None)
            self._stopped[changed] = known  # all unknown keys share one entry
        return known

    def forget(self, digest: bytes, known: Known) -> None:
        """Drop the entry of a key unless a newer one has replaced it."""
        if self.active.get(digest) is known:
            del self.active[digest]

    def _parsed(self, header: str, account_header: str) -> _Headers:
        _epoch, revision, state, expires_at_ms, capacity, refill = header.split(" ")
        own = None if capacity == "-" else self._limit(capacity, refill)
        # A key that has expired is refused before its account is read.
        account = account_header or _UNKNOWN_HEADER
        parsed = _Headers(
            header,
            account,
            KeyState(state),
            int(revision),
            int(expires_at_ms),
            own,
            own or self.limit,
            self._account_limit(account),
            {},
        )
        return self._headers.setdefault((header, account_header), parsed)

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
        memories = (self.active, self._stopped, self._headers, self._scopes, self._limits, self._accounts)
        self._count = 0
        for memory in (*memories, self.applied):
            memory.clear()
