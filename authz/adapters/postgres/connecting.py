"""Opens connections to the primary among the servers of a URL, and stores why the last attempt failed.

`pool.py` decides how many there are and which transaction uses them.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from time import perf_counter
from typing import Final

from authz.adapters.clock_skew import OnSkew
from authz.adapters.postgres.failures import CONNECT_FAILURES, description, is_transient
from authz.adapters.postgres.session import Session, connect
from authz.adapters.postgres.url import Host, PostgresUrl, Server, url_reader
from authz.core.errors import StoreUnavailable

_ADDRESSES_MAX: Final = 16
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
        self._primary: Server | None = None

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
        except (OSError, UnicodeError) as error:
            fault = Fault(f"AUTHZ_POSTGRES_URL_FILE: cannot be read: {type(error).__name__}", transient=True)
            raise self._failed([fault]) from None
        except ValueError as error:
            raise self._failed([_fault(error)]) from None
        for server in await self._in_order(url):
            started_s = perf_counter()
            try:
                session = await connect(url, server, url.connect_s or self.connect_s, self.queries, self._on_skew)
            except CONNECT_FAILURES as error:
                faults.append(_fault(error))
            else:
                self.fault, self._failures, self._primary = None, 0, server
                if self._on_connected is not None:
                    self._on_connected(perf_counter() - started_s)
                return session
        raise self._failed(faults) from None

    async def _in_order(self, url: PostgresUrl) -> list[Server]:
        """List the servers, first the one that was the primary when it was last looked for."""
        try:
            async with asyncio.timeout(url.connect_s or self.connect_s):
                found = await _servers(url.hosts)
        except TimeoutError:
            found = [Server(host) for host in url.hosts]
        return sorted(found, key=lambda server: server != self._primary)

    def _failed(self, faults: Sequence[Fault]) -> StoreUnavailable:
        self._failures += 1
        details = [f"server {number}: {fault.detail}" for number, fault in enumerate(faults, 1)]
        detail = faults[0].detail if len(faults) == 1 else "; ".join(details)
        self.fault = Fault(detail, any(fault.transient for fault in faults))
        return self.fault.as_error()


async def _servers(hosts: Sequence[Host]) -> list[Server]:
    """List the servers of some hosts; each address of a name may be another one, such as a primary and its standbys."""
    found: list[Server] = []
    for host in hosts:
        addresses: list[str] = []
        if not host.name.startswith("/") and not _is_address(host.name):
            with suppress(OSError, UnicodeError):  # the attempt to connect will say why
                infos = await asyncio.get_running_loop().getaddrinfo(host.name, None, type=socket.SOCK_STREAM)
                addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))[:_ADDRESSES_MAX]
        found += [Server(host, one) for one in addresses] if len(addresses) > 1 else [Server(host)]
    return found or [Server(None)]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _fault(error: BaseException) -> Fault:
    return Fault(description(error, connecting=True), is_transient(error))
