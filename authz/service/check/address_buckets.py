"""Buckets of source addresses in bounded memory, and the keys that throttled addresses have requested.

An eviction loses as little as possible: first a bucket that is full again, which means the same as none, then the one
that is closest to it. So a burst from many addresses neither frees one that is throttled nor throttles another.
"""

from collections import OrderedDict
from heapq import heappop, heappush

from authz.core.limits import Limit, TokenBucket

ADDRESSES_MAX = 10_000
"""The most addresses with a bucket."""

REQUESTED_MAX = 20_000
"""The most remembered keys of all throttled addresses."""

REQUESTED_OF_ADDRESS_MAX = 2_000
"""The most remembered keys of one address."""

_EXAMINED_MAX = 16  # bounds the work of one eviction


class AddressBuckets:
    """A bucket for each address; an address without one has a full bucket."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}
        # One entry for each address, with the time at which its bucket was to be full when the entry was made. The true
        # time may be later, because tokens were taken since.
        self._full_at: list[tuple[float, str]] = []

    def bucket(self, limit: Limit, address: str, now_s: float) -> TokenBucket:
        """Return the bucket of an address under a limit."""
        bucket = self._buckets.get(address)
        return TokenBucket(limit, limit.capacity, now_s) if bucket is None else bucket.under(limit)

    def keep(self, address: str, bucket: TokenBucket) -> None:
        """Store the bucket of an address; evicts another one if there are too many."""
        if address not in self._buckets:
            if len(self._buckets) >= ADDRESSES_MAX:
                self._evict()
            heappush(self._full_at, (_full_at_s(bucket), address))
        self._buckets[address] = bucket

    def throttled(self, now_s: float) -> int:
        """Count the addresses with less than one token."""
        # Computed without new bucket objects, because this shares the event loop with the checks.
        empty = (bucket for bucket in self._buckets.values() if bucket.remaining < 1)
        return sum(bucket.remaining + (now_s - bucket.at_s) * bucket.limit.refill_per_s < 1 for bucket in empty)

    def _evict(self) -> None:
        examined: list[tuple[float, str]] = []
        while self._full_at and len(examined) < _EXAMINED_MAX:
            known_s, address = heappop(self._full_at)
            full_at_s = _full_at_s(self._buckets[address])
            examined.append((full_at_s, address))
            if full_at_s <= known_s:
                break
        evicted = min(examined)
        del self._buckets[evicted[1]]
        for entry in examined:
            if entry is not evicted:
                heappush(self._full_at, entry)


class RequestedKeys:
    """The digests of keys that throttled addresses have requested, so that a repetition can be told from a guess.

    An address that requests many keys replaces its own.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[str, OrderedDict[bytes, None]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def has(self, address: str, digest: bytes) -> bool:
        """Return whether the address has requested the key before."""
        return digest in self._of.get(address, ())

    def add(self, address: str, digest: bytes) -> None:
        """Remember a key; forgets an old one if there are too many."""
        own = self._of.setdefault(address, OrderedDict())
        self._of.move_to_end(address)
        if digest not in own:
            own[digest] = None
            self._count += 1
        if len(own) > REQUESTED_OF_ADDRESS_MAX or (self._count > REQUESTED_MAX and len(own) > 1):
            own.popitem(last=False)
            self._count -= 1
        elif self._count > REQUESTED_MAX:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        address, keys = next(iter(self._of.items()))
        keys.popitem(last=False)
        self._count -= 1
        if not keys:
            del self._of[address]


def _full_at_s(bucket: TokenBucket) -> float:
    return bucket.at_s + (bucket.limit.capacity - bucket.remaining) / bucket.limit.refill_per_s
