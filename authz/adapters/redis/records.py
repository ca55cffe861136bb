"""What a key is in Redis, as bytes: one string that holds its bucket and its record, and the scripts that work on it.

    k:<digest, base64>   16 bytes of bucket: tokens, and when they were counted in µs, as doubles
                         a line of header: "EPOCH REVISION STATE EXPIRES_AT_MS CAPACITY REFILL_PER_S", "-" for default
                         record: "KEY_ID ACCOUNT_ID SCOPE SCOPE…"

A string, whose head is written over in its place, costs Redis less than a hash, and one that stays for ever less than
one that Redis has to know the end of: only keys that have ended, or will, are given one. The scripts in `lua/` say what
happens on the server; who asks them, and what is remembered of their answers, is `redis_keys.py`.
"""

from binascii import b2a_base64
from importlib.resources import files

from authz.adapters.redis.connection.link import Script
from authz.adapters.redis.leases import ACQUIRE
from authz.core.check import KeyRecord, KeyState

ENDED_TTL_S = 86_400
"""How long the record of a key stays that has ended: was revoked, or has expired."""

BUCKET_BYTES = 16
"""How much of a key's string is its bucket."""

_CHECK, _PUT, _OPENING = (
    files("authz.adapters.redis").joinpath("lua", name).read_bytes() for name in ("check.lua", "put.lua", "opening.lua")
)
CHECK, PUT = Script(_CHECK), Script(_PUT)
_FUNCTION = b"local function %b(KEYS, ARGV)\n%b\nend\n"
OPENING = Script(_FUNCTION % (b"check", _CHECK) + _FUNCTION % (b"acquire", ACQUIRE.source) + _OPENING)
"""A check together with the lease of the stream that it opens."""

# EVALSHA up to the key's own 43 characters of 45: with one key and three arguments, with four keys and eight.
CHECK_HEAD = b"*7\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n1\r\n$45\r\nk:"
OPENING_HEAD = b"*15\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n4\r\n$45\r\nk:" % OPENING.sha.encode()


def redis_key(digest: bytes) -> bytes:
    """Return the key of the string that holds a key's bucket and its record."""
    return b"k:" + key_name(digest)


def encoded_words(*words: bytes) -> bytes:
    """Write arguments as Redis reads them."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def key_name(digest: bytes) -> bytes:
    """Return what stands for a digest in its key: 43 characters."""
    return b2a_base64(digest, newline=False)[:43]


def header_of(epoch: str, record: KeyRecord) -> str:
    """Write the header of a record."""
    limit = "- -" if record.limit is None else f"{record.limit.capacity} {record.limit.refill_per_s!r}"
    return f"{epoch} {record.revision} {record.state} {record.expires_at_ms} {limit}"


def stay_of(record: KeyRecord, negative_ttl_s: float) -> tuple[int, int]:
    """Tell how long a record stays, in milliseconds, 0 for ever; and from when on, in Unix time, 0 for at once.

    As long as a key may work again its bucket must be there, or it would come back with tokens that it never earned.
    """
    if record.state is KeyState.UNKNOWN:
        return int(negative_ttl_s * 1000), 0
    if record.state is KeyState.REVOKED:
        return ENDED_TTL_S * 1000, 0
    return (ENDED_TTL_S * 1000, record.expires_at_ms) if record.expires_at_ms else (0, 0)


def record_words(record: KeyRecord) -> tuple[bytes, ...]:
    """Write a record, as what `put.lua` takes of it: nothing where there is no such key."""
    if record.state is KeyState.UNKNOWN:
        return ()
    return (" ".join((record.key_id, record.account_id, *sorted(record.scopes))).encode(),)
