"""The buckets that one check takes from where a key may have several, as arguments of the script.

Which limits apply is `core/limits.py`; the commands and replies are `limit_checks.py`.
"""

from struct import Struct

from authz.core.buckets.bucket_set import BucketSet
from authz.core.check import Bucket, BucketLimits, KeyRecord
from authz.core.limits import NO_LIMIT, KeyLimits, Limit, NamedLimit
from authz.core.value import Value

_SPARE_MS = 60_000
"""How much longer than their refill further buckets are kept, because a clock may be set back."""


class Applied(Value):
    """The buckets of a check of a row with the limits `row`, and the arguments of the script without the count.

    `shown` has what headers say of each bucket that may be shown, so that all checks share it.
    """

    row: tuple[NamedLimit, ...]
    words: tuple[bytes, ...]
    shown: tuple[BucketLimits, ...]

    def bucket(self, index: int, remaining: float) -> Bucket:
        """Return the bucket to show, by its index from 1; raises IndexError."""
        return Bucket(self.shown[index - 1], remaining)


def applied(
    limits: KeyLimits,
    record: KeyRecord,
    row: tuple[NamedLimit, ...],
    cost: int,
    *,
    headers: tuple[bytes, bytes],
    account: Limit | None,
) -> Applied:
    """Return the buckets of a check; `headers` are those of the records of key and account, the second may be empty."""
    buckets = BucketSet(limits.of(record.plan, record.limit, row), account)
    shared = account or NO_LIMIT
    life_ms = int(limits.longest_s * 1000) + _SPARE_MS
    numbers: list[float] = [cost, record.expires_at_ms, shared.capacity, shared.refill_per_s, life_ms]
    for it in buckets.items:
        numbers += (it.limit.capacity, it.limit.refill_per_s)
    names = " ".join(it.name for it in buckets.items[1:]).encode()
    words = (*headers, Struct(f"<{len(numbers)}d").pack(*numbers), names)
    return Applied(row, words, tuple(buckets.shown(index) for index in range(len(buckets.listed))))
