"""Throttles of source addresses that send invalid keys: a bucket for each address.

A valid key takes no token and is never refused here. Only two things are: keys that proved invalid, and loads of keys
that the projection does not hold, because a flood of guesses would otherwise overload the directory.
"""

import time
from collections.abc import Callable

from authz.core.addresses import network
from authz.core.check import Deny, Lookup, Principal, RequestAttributes
from authz.core.errors import DenyReason
from authz.core.limits import Limit, retry_after_s
from authz.core.policy.route import Route
from authz.service.check.address_buckets import AddressBuckets, RequestedKeys

SUSPECT_LOADS_MAX = 16
"""The most concurrent loads for throttled addresses, so that they do not occupy the directory."""

SUSPECT_LOADS_OF_ADDRESS_MAX = 4
"""The most of them for one address, so that it does not occupy those of the others."""

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
        self._buckets = AddressBuckets()
        self._requested = RequestedKeys()
        self._suspect_loads: dict[bytes, str] = {}  # the addresses of the loads

    def judge(self, limit: Limit, attributes: RequestAttributes, deny: Deny) -> Deny:
        """Charge the address for an invalid key; beyond its limit, refuse for that reason instead."""
        if deny.bucket is not None or deny.reason not in _INVALID:
            return deny
        address = network(attributes.source_address())
        now_s = self._now_s()
        granted, bucket = self._buckets.bucket(limit, address, now_s).take(1, now_s)
        self._buckets.keep(address, bucket)
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
        now_s = self._now_s()
        _, bucket = self._buckets.bucket(limit, address, now_s).take(0, now_s)
        if bucket.remaining >= 1:
            return None
        digest = lookup.digest
        if self._requested.has(address, digest) and self._may_load(address):
            self._suspect_loads[digest] = address
            return None
        self._requested.add(address, digest)
        return _throttled(lookup.route, None, retry_after_s(limit, bucket.remaining, 1), "not loaded")

    def loaded(self, digest: bytes) -> None:
        """Record the end of a load."""
        self._suspect_loads.pop(digest, None)

    def throttled(self) -> int:
        """Count the addresses beyond their limit."""
        return self._buckets.throttled(self._now_s())

    def _may_load(self, address: str) -> bool:
        loads = self._suspect_loads
        if len(loads) >= SUSPECT_LOADS_MAX:
            return False
        return sum(each == address for each in loads.values()) < SUSPECT_LOADS_OF_ADDRESS_MAX


def _throttled(route: Route | None, principal: Principal | None, wait_s: int, detail: str) -> Deny:
    return Deny(DenyReason.ADDRESS_THROTTLED, route, principal, retry_after_s=wait_s, detail=detail)
