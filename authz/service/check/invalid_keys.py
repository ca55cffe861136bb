"""Where keys that open nothing come from: a bucket for every source address, and what is refused while it is empty.

A key that works takes nothing from it and is never refused by it, because only what has proven invalid is judged here,
and loads of keys that the projection does not hold: those are what a flood of guesses would cost the directory.
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
"""Addresses that are remembered; beyond it, those forget first that were quiet the longest."""

ASKED_MAX = 20_000
"""Keys from throttled addresses that were not loaded, and are remembered in case they are asked for again."""

SUSPECT_LOADS_MAX = 4
"""Loads for throttled addresses that may be under way at once, so that they leave the directory to others."""

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
    """The buckets of source addresses. `now_s` is seconds on any clock that does not go back."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._asked: OrderedDict[bytes, None] = OrderedDict()
        self._suspect_loads: set[bytes] = set()

    def judge(self, limit: Limit, attributes: RequestAttributes, deny: Deny) -> Deny:
        """Charge the address for a key that opens nothing; past its limit, that is what it is refused for."""
        if deny.bucket is not None or deny.reason not in _INVALID:
            return deny
        address = network(attributes.source_address())
        granted, bucket = self._bucket(limit, address).take(1, self._now_s())
        self._keep(address, bucket)
        if granted:
            return deny
        # The same for every kind of bad key, as without the throttle: it must not tell them apart.
        return _throttled(deny.route, deny.principal, retry_after_s(limit, bucket.remaining, 1), deny.reason.value)

    def refuse_load(self, limit: Limit, attributes: RequestAttributes, lookup: Lookup) -> Deny | None:
        """Refuse to load a key for an address that is past its limit; None where it may be loaded.

        The key may be a good one that the projection has lost. Guesses do not come twice, so a key that is asked for
        again is loaded, a few at a time. A load that is permitted must be followed by `loaded`.
        """
        address = network(attributes.source_address())
        _, bucket = self._bucket(limit, address).take(0, self._now_s())
        if bucket.remaining >= 1:
            return None
        digest = lookup.digest
        if digest in self._asked and len(self._suspect_loads) < SUSPECT_LOADS_MAX:
            self._suspect_loads.add(digest)
            return None
        self._asked[digest] = None
        if len(self._asked) > ASKED_MAX:
            self._asked.popitem(last=False)
        return _throttled(lookup.route, None, retry_after_s(limit, bucket.remaining, 1), "not loaded")

    def loaded(self, digest: bytes) -> None:
        """Note that a load has ended."""
        self._suspect_loads.discard(digest)

    def throttled(self) -> int:
        """Count the addresses that are past their limit."""
        now_s = self._now_s()
        # Without making thousands of buckets anew: whoever counts them shares the event loop with the checks.
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
