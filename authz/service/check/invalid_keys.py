"""Throttles of source addresses that send invalid keys: a bucket for each address.

A valid key takes no token and is never refused here. Only two things are: keys that proved invalid, and loads of keys
that the projection does not hold, because a flood of guesses would otherwise overload the directory.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from authz.core.addresses import network
from authz.core.check import Deny, Lookup, Principal, RequestAttributes
from authz.core.errors import DenyReason
from authz.core.limits import Limit, TokenBucket, retry_after_s
from authz.core.policy.route import Route

ADDRESSES_MAX = 10_000
"""The most addresses that are remembered; the one that was idle the longest is evicted first."""

REQUESTED_MAX = 20_000
"""The most keys from throttled addresses that are remembered because they were not loaded."""

SUSPECT_LOADS_MAX = 4
"""The most concurrent loads for throttled addresses, so that they do not occupy the directory."""

_INVALID = frozenset(
    {
        DenyReason.KEY_REPEATED,
        DenyReason.KEY_MALFORMED,
        DenyReason.KEY_UNKNOWN,
        DenyReason.KEY_REVOKED,
        DenyReason.KEY_EXPIRED,
        DenyReason.KEY_DISABLED,
        DenyReason.ACCOUNT_SUSPENDED,
    }
)


class InvalidKeys:
    """The buckets of source addresses. `now_s` is seconds on a monotonic clock."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._requested: OrderedDict[bytes, None] = OrderedDict()
        self._suspect_loads: set[bytes] = set()

    def judge(self, limit: Limit, attributes: RequestAttributes, deny: Deny) -> Deny:
        """Charge the address for an invalid key; beyond its limit, refuse for that reason instead."""
        if deny.bucket is not None or deny.reason not in _INVALID:
            return deny
        address = network(attributes.source_address())
        granted, bucket = self._bucket(limit, address).take(1, self._now_s())
        self._keep(address, bucket)
        if granted:
            return deny
        # The same reply for every invalid key: the throttle must not reveal why a key is invalid.
        return _throttled(deny.route, deny.principal, retry_after_s(limit, bucket.remaining, 1), deny.reason.value)

    def refuse_load(self, limit: Limit, attributes: RequestAttributes, lookup: Lookup) -> Deny | None:
        """Refuse to load a key for an address beyond its limit; return None if it may be loaded.

        The key may be a valid one that the projection has lost. Guesses are not repeated, so a key that is requested
        again is loaded, a few at a time. After a permitted load, `loaded` must be called.
        """
        address = network(attributes.source_address())
        _, bucket = self._bucket(limit, address).take(0, self._now_s())
        if bucket.remaining >= 1:
            return None
        digest = lookup.digest
        if digest in self._requested and len(self._suspect_loads) < SUSPECT_LOADS_MAX:
            self._suspect_loads.add(digest)
            return None
        self._requested[digest] = None
        if len(self._requested) > REQUESTED_MAX:
            self._requested.popitem(last=False)
        return _throttled(lookup.route, None, retry_after_s(limit, bucket.remaining, 1), "not loaded")

    def loaded(self, digest: bytes) -> None:
        """Record the end of a load."""
        self._suspect_loads.discard(digest)

    def throttled(self) -> int:
        """Count the addresses beyond their limit."""
        now_s = self._now_s()
        # Computed without new bucket objects, because this shares the event loop with the checks.
        empty = (bucket for bucket in self._buckets.values() if bucket.remaining < 1)
        return sum(bucket.remaining + (now_s - bucket.at_s) * bucket.limit.refill_per_s < 1 for bucket in empty)

    def _bucket(self, limit: Limit, address: str) -> TokenBucket:
        bucket = self._buckets.get(address)
        return TokenBucket(limit, limit.capacity, self._now_s()) if bucket is None else bucket.under(limit)

    def _keep(self, address: str, bucket: TokenBucket) -> None:
        self._buckets[address] = bucket
        self._buckets.move_to_end(address)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)


def _throttled(route: Route | None, principal: Principal | None, wait_s: int, detail: str) -> Deny:
    return Deny(DenyReason.ADDRESS_THROTTLED, route, principal, retry_after_s=wait_s, detail=detail)
