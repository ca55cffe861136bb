"""Throttling of public endpoints by address and by subject.

The policy has the limits and messages; a `ports.Counters` counts.
"""

from authz.core.addresses import network
from authz.core.errors import Throttled
from authz.core.throttles import Attempt, Throttles
from authz.service.portal.ports import Counters, PortalObserver


class Gate:
    """Counts every attempt before it is made, so that concurrent guesses are all counted."""

    def __init__(self, counters: Counters, throttles: Throttles, observer: PortalObserver) -> None:
        self._counters = counters
        self._throttles = throttles
        self._observer = observer

    async def admit(self, attempt: Attempt, *, address: str, subject: str = "") -> None:
        """Count an attempt; raises `Throttled`, and `StoreUnavailable` if it cannot be counted."""
        throttle = self._throttles[attempt]
        counted = [("address", network(address), throttle.per_address)]
        if subject and throttle.per_subject:
            counted.append(("subject", subject, throttle.per_subject))
        for by, whom, attempts_max in counted:
            if not await self._counters.take(f"{attempt}.{by}", whom, attempts_max, throttle.wait_s):
                self._observer.throttled(attempt, by)
                raise Throttled(throttle.message, throttle.wait_s)

    async def forgive(self, attempt: Attempt, *, subject: str) -> None:
        """Uncount a successful attempt of a subject; it still counts for its address."""
        await self._counters.refund(f"{attempt}.subject", subject)
