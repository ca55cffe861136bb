"""Opens connections to the primary among the servers of a URL, and stores why the last attempt failed.

`pool.py` decides how many there are and which transaction uses them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from authz.adapters.clock_skew import OnSkew
from authz.adapters.postgres.failures import CONNECT_FAILURES, description, is_transient
from authz.adapters.postgres.session import Session, connect
from authz.adapters.postgres.url import Host, url_reader
from authz.core.errors import StoreUnavailable

_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why connecting failed; not `transient` where trying again cannot help."""

    detail: str
    transient: bool

    def as_error(self) -> StoreUnavailable:
        """Return the fault as an exception."""
        return StoreUnavailable("postgres", self.detail, transient=self.transient)


class Connector:
    """Connects to one server after the other until one takes writes.

    The URL is read anew each time. `connect_s` bounds the attempt at one server, unless the URL has connect_timeout.
    `on_connected` receives how long a successful attempt took, in seconds.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        connect_s: float,
        on_skew: OnSkew | None = None,
        on_connected: Callable[[float], None] | None = None,
    ) -> None:
        self._read = url_reader(url)
        self._on_connected = on_connected
        self.connect_s = connect_s
        self._on_skew = on_skew
        self.queries: list[str] = []
        self.fault: Fault | None = None
        self._failures = 0
        self._primary: Host | None = None

    @property
    def is_down(self) -> bool:
        """Whether connecting fails; one failure that may pass is tried again before anybody hears of it."""
        return self.fault is not None and (self._failures > 1 or not self.fault.transient)

    @property
    def pause_s(self) -> float:
        """Return how long to wait before the next attempt; 0 unless the last one failed."""
        return 0.0 if self.fault is None else _PAUSES_S[min(self._failures, len(_PAUSES_S)) - 1]

    async def connect(self) -> Session:
        """Return a connection to the primary; raises `StoreUnavailable` with what each server answered."""
        faults: list[Fault] = []
        try:
            url = self._read()
        except (OSError, ValueError) as error:
            raise self._failed([_fault(error)]) from None
        hosts: Sequence[Host | None] = self._in_order(url.hosts) or [None]
        for host in hosts:
            started_s = perf_counter()
            try:
                session = await connect(url, host, url.connect_s or self.connect_s, self.queries, self._on_skew)
            except CONNECT_FAILURES as error:
                faults.append(_fault(error))
            else:
                self.fault, self._failures, self._primary = None, 0, host
                if self._on_connected is not None:
                    self._on_connected(perf_counter() - started_s)
                return session
        raise self._failed(faults) from None

    def _in_order(self, hosts: Sequence[Host]) -> list[Host]:
        """List the servers, first the one that was the primary when it was last looked for."""
        return sorted(hosts, key=lambda host: host != self._primary)

    def _failed(self, faults: Sequence[Fault]) -> StoreUnavailable:
        self._failures += 1
        details = [f"server {number}: {fault.detail}" for number, fault in enumerate(faults, 1)]
        detail = faults[0].detail if len(faults) == 1 else "; ".join(details)
        self.fault = Fault(detail, any(fault.transient for fault in faults))
        return self.fault.as_error()


def _fault(error: BaseException) -> Fault:
    return Fault(description(error, connecting=True), is_transient(error))
