"""Throttling of public endpoints by address and by subject.

The policy has the limits and messages; a `ports.Counters` counts.
"""

from authz.core.addresses import network
from authz.core.errors import Throttled
from authz.core.throttles import Attempt, Throttles
from authz.service.portal.ports import Counters, PortalObserver

_ADDRESSES = 10  # NIST SP 800-63B, 3.2.2: at most 100 failed attempts in a row


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
            await self._take(attempt, by, by, whom, attempts_max)

    async def admit_subject(self, attempt: Attempt, *, subject: str) -> None:
        """Count an attempt for its subject alone, where `admit` has counted the address; raises as `admit` does."""
        if attempts_max := self._throttles[attempt].per_subject:
            await self._take(attempt, "subject", "subject", subject, attempts_max)

    async def admit_guess(self, attempt: Attempt, *, address: str, subject: str, browser: str = "") -> None:
        """Count a guess at the secret of a subject; raises `Throttled` and `StoreUnavailable`.

        Each address has `per_subject` guesses, and all addresses together ten times as many: a stranger at one address
        does not lock the subject out. `browser` identifies a browser in which the subject has logged in before; it has
        guesses of its own, which strangers cannot use up.
        """
        for kind, whom, attempts_max in self._guesses(attempt, address, subject, browser):
            await self._take(attempt, kind, "subject", whom, attempts_max)

    async def forgive(self, attempt: Attempt, *, subject: str) -> None:
        """Uncount a successful attempt of a subject; it still counts for its address."""
        await self._counters.refund(f"{attempt}.subject", subject)

    async def forgive_address(self, attempt: Attempt, *, address: str) -> None:
        """Uncount an attempt of an address that did not get as far as the thing that is limited."""
        await self._counters.refund(f"{attempt}.address", network(address))

    async def forgive_guess(self, attempt: Attempt, *, address: str, subject: str, browser: str = "") -> None:
        """Uncount a right guess, as `admit_guess` counted it."""
        for kind, whom, _ in self._guesses(attempt, address, subject, browser):
            await self._counters.refund(f"{attempt}.{kind}", whom)

    def _guesses(self, attempt: Attempt, address: str, subject: str, browser: str) -> list[tuple[str, str, int]]:
        per_subject = self._throttles[attempt].per_subject
        if not subject or not per_subject:
            return []
        if browser:
            return [("browser", f"{browser} {subject}", per_subject)]
        pair = f"{network(address)} {subject}"
        return [("pair", pair, per_subject), ("subject", subject, per_subject * _ADDRESSES)]

    async def _take(self, attempt: Attempt, kind: str, by: str, whom: str, attempts_max: int) -> None:
        throttle = self._throttles[attempt]
        if not await self._counters.take(f"{attempt}.{kind}", whom, attempts_max, throttle.wait_s):
            self._observer.throttled(attempt, by)
            raise Throttled(throttle.message, throttle.wait_s)
