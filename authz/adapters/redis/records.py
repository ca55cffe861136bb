"""The Redis format of keys and accounts: one string each that holds its bucket and its record, and the scripts.

    k:<digest, base64>   bucket, 16 bytes: tokens, and the time of the count in µs, as doubles
                         header, one line: "EPOCH REVISION STATE EXPIRES_AT_MS CAPACITY REFILL_PER_S", "-" for default
                         record: "KEY_ID ACCOUNT_ID SCOPE SCOPE…", and "plan=NAME" at the end if the key has a plan
    k:{k:<digest>}       further buckets, a hash in the slot of the key: name -> bucket as above and "EPOCH"; it has a
                         time to live, after which all of them are full
    a:<account id>       bucket as above
                         header, one line: "EPOCH REVISION STATE CAPACITY REFILL_PER_S", sums of own limits

A string whose first bytes are overwritten in place costs Redis less than a hash. A string without a time to live costs
less than one with it: only keys that ended, or will end, have a time to live. The scripts are in `lua/`; `keys.py`
calls them and caches their replies.
"""

from binascii import b2a_base64
from importlib.resources import files

from authz.adapters.redis.connection.scripts import Script
from authz.adapters.redis.leases import ACQUIRE
from authz.core.check import AccountRecord, KeyRecord, KeyState
from authz.core.value import Value

ENDED_TTL_S = 86_400
"""How long the record of a revoked or expired key is kept."""

BUCKET_BYTES = 16
"""The length of the bucket at the start of the string."""

PLAN_MARK = "plan="
"""What precedes the plan in a record. No scope contains it, so former versions find a scope that no row needs."""

_BUCKET, _CHECK, _CHECK_MANY, _ACCOUNT, _REFUND, _PUT, _OPENING, _LIMITS, _LOOK, _OPENING_LIMITS = (
    files("authz.adapters.redis").joinpath("lua", f"{name}.lua").read_bytes()
    for name in (
        *("bucket", "check", "check_many", "account", "refund", "put", "opening"),
        *("limits", "look", "opening_limits"),
    )
)
CHECK, PUT = Script(_BUCKET + _CHECK), Script(_PUT)
CHECK_MANY = Script(_BUCKET + _CHECK_MANY)
"""Several checks of cached keys."""
ACCOUNT, REFUND = Script(_BUCKET + _ACCOUNT), Script(_REFUND)
"""The second and, after a refusal, the third step of a check in a cluster."""
_FUNCTION = b"local function %b(KEYS, ARGV)\n%b\nend\n"
OPENING = Script(_FUNCTION % (b"check", CHECK.source) + _FUNCTION % (b"acquire", ACQUIRE.source) + _OPENING)
"""A check that also acquires the lease of the stream that it opens."""
LIMITS, LOOK = Script(_BUCKET + _LIMITS), Script(_LOOK)
"""Checks that take from further buckets, too, and what reads a record without a check."""
OPENING_LIMITS = Script(
    _FUNCTION % (b"check", LIMITS.source) + _FUNCTION % (b"acquire", ACQUIRE.source) + _OPENING_LIMITS
)
"""A check of several buckets that also acquires the lease of the stream that it opens."""


class LimitScripts(Value):
    """The scripts of such checks, or their variants for a cluster, where no check opens a stream."""

    look: Script
    take: Script
    opening: Script | None

    @property
    def all(self) -> tuple[Script, ...]:
        """Every script."""
        return (self.look, self.take) if self.opening is None else (self.look, self.take, self.opening)


class KeyScripts(Value):
    """The scripts of keys: one check, the write of a record, and checks of further buckets; or those for a cluster."""

    check: Script
    put: Script
    limits: LimitScripts


KEY_SCRIPTS = KeyScripts(CHECK, PUT, LimitScripts(LOOK, LIMITS, OPENING_LIMITS))


# EVALSHA up to the keys: with two keys and three arguments; in a cluster with one key; with five keys and nine
# arguments.
CHECK_HEAD = b"*8\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n2\r\n"
CLUSTER_CHECK_HEAD = b"*7\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n1\r\n"
OPENING_HEAD = b"*17\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n5\r\n" % OPENING.sha.encode()


def encoded_key(digest: bytes) -> bytes:
    """Encode the Redis key of an API key in the Redis protocol."""
    return b"$45\r\nk:%b\r\n" % key_name(digest)


def redis_key(digest: bytes) -> bytes:
    """Return the Redis key of an API key."""
    return b"k:" + key_name(digest)


def further_key(digest: bytes) -> bytes:
    """Return the Redis key of the further buckets of an API key: it is in the same slot."""
    return b"k:{k:%b}" % key_name(digest)


def account_key(account_id: str) -> bytes:
    """Return the Redis key of an account."""
    return b"a:" + account_id.encode()


def encoded_words(*words: bytes) -> bytes:
    """Encode arguments in the Redis protocol."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def key_name(digest: bytes) -> bytes:
    """Return the digest in base64: 43 characters."""
    return b2a_base64(digest, newline=False)[:43]


def header_of(epoch: str, record: KeyRecord) -> str:
    """Encode the header of a record."""
    limit = "- -" if record.limit is None else f"{record.limit.capacity} {record.limit.refill_per_s!r}"
    return f"{epoch} {record.revision} {record.state} {record.expires_at_ms} {limit}"


def account_header(epoch: str, record: AccountRecord) -> str:
    """Encode the header of an account's record."""
    state = "s" if record.is_suspended else "a"
    return f"{epoch} {record.revision} {state} {record.own.capacity} {record.own.refill_per_s!r}"


def stay_of(record: KeyRecord, negative_ttl_s: float) -> tuple[int, int]:
    """Return the time to live of a record in ms, 0 for none, and its start in ms of Unix time, 0 for now.

    The bucket of a key that may become active again has no time to live: a lost bucket would be full again.
    """
    if record.state is KeyState.UNKNOWN:
        return int(negative_ttl_s * 1000), 0
    if record.state is KeyState.REVOKED:
        return ENDED_TTL_S * 1000, 0
    return (ENDED_TTL_S * 1000, record.expires_at_ms) if record.expires_at_ms else (0, 0)


def record_words(record: KeyRecord) -> tuple[bytes, ...]:
    """Encode a record as the last argument of `put.lua`: nothing for an unknown key."""
    if record.state is KeyState.UNKNOWN:
        return ()
    plan = (PLAN_MARK + record.plan,) if record.plan else ()
    return (" ".join((record.key_id, record.account_id, *sorted(record.scopes), *plan)).encode(),)
