"""Admits attempts at the open doors, by address and by subject, or says how long to wait.

How many are allowed, and what too many are told, is policy; where they are counted is behind `portal_ports.Counters`.
"""

from authz.core.addresses import network
from authz.core.errors import Throttled
from authz.core.throttles import Attempt, Throttles
from authz.service.portal.ports import Counters, PortalObserver


class Gate:
    """Counts before the attempt is made: guesses that come together are all counted."""

    def __init__(self, counters: Counters, throttles: Throttles, observer: PortalObserver) -> None:
        self._counters = counters
        self._throttles = throttles
        self._observer = observer

    async def admit(self, attempt: Attempt, *, address: str, subject: str = "") -> None:
        """Count an attempt; raises `Throttled`, and `StoreUnavailable` where nobody can count."""
        throttle = self._throttles[attempt]
        counted = [("address", network(address), throttle.per_address)]
        if subject and throttle.per_subject:
            counted.append(("subject", subject, throttle.per_subject))
        for by, whom, attempts_max in counted:
            if not await self._counters.take(f"{attempt}.{by}", whom, attempts_max, throttle.wait_s):
                self._observer.throttled(attempt, by)
                raise Throttled(throttle.message, throttle.wait_s)

    async def forgive(self, attempt: Attempt, *, subject: str) -> None:
        """Take back what was counted for a subject whose attempt succeeded; its address has still made one."""
        await self._counters.give_back(f"{attempt}.subject", subject)
