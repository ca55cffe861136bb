"""The listener of the hot path: checks and unary health checks on our own HTTP/2 core, in batches.

Envoy's access log arrives here too. This module owns the connections together: their number, memory and time limits.
One connection is in `peer.py`, the accept loop in `acceptor.py`. The streaming health check (Watch) is in
`grpc_server.py`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from grpc_health.v1 import health_pb2

from authz.edge.check.acceptor import Acceptor
from authz.edge.check.messages import Checks
from authz.edge.check.peer import Peer
from authz.edge.check.tls import CheckTls
from authz.edge.h2 import UploadBudget
from authz.edge.sockets import SocketRights, listening_socket, port_of
from authz.service.check.checker import Checker

CONNECTIONS_MAX = 1_024
_UPLOAD_BYTES_MAX = 33_554_432
_BUFFERED_BYTES_MAX = 134_217_728
_STREAMS_MAX = 65_536
_SWEEP_S = 1.0
# The causes for which a connection is refused or closed before its time, beside those of the acceptor.
_FULL, _EVICTED = "full", "evicted"
_UPLOADS, _CALLS, _BUFFERS = "incomplete_requests", "open_calls", "buffered_bytes"

_log = logging.getLogger("authz.check")


class CheckListener:
    """The check listener of one checker on `HOST:PORT` (port 0: any free port) or `unix:/PATH`.

    `check_s_max` is the longest duration of a check. A call with a longer grpc-timeout needs no timer. Over
    `connections_max` the oldest connection without a complete request is closed for a new one; where all have sent
    one, the new one is refused. `rights` are those of a unix socket; `shares_port` allows other processes on the port.
    """

    def __init__(
        self,
        checker: Checker,
        listen: str,
        *,
        check_s_max: float,
        connections_max: int = CONNECTIONS_MAX,
        tls: CheckTls | None = None,
        rights: SocketRights = SocketRights(),  # noqa: B008 -- a frozen value
        shares_port: bool = False,
    ) -> None:
        self.checks = Checks(checker)
        self.check_s_max = check_s_max
        self.checker = checker
        self.peers: set[Peer] = set()
        self.health = b""
        self.uploads = UploadBudget(_UPLOAD_BYTES_MAX, self._make_room)
        self.port = 0
        self._listen = listen
        self._tls = tls
        self._rights = rights
        self._shares_port = shares_port
        self._connections_max = connections_max
        self._unproven: dict[Peer, None] = {}  # the oldest first
        self._acceptor: Acceptor | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = Counter(dict.fromkeys((_FULL, _EVICTED, _UPLOADS, _CALLS, _BUFFERS), 0))
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    async def start(self) -> None:
        """Accept connections; the health check returns NOT_SERVING until `serve_health`. Raises `SettingsError`."""
        self.serve_health(serving=False)
        listener = listening_socket(self._listen, self._rights, shares_port=self._shares_port)
        self.port = port_of(listener)
        tls = None if self._tls is None else self._tls.context
        self._acceptor = Acceptor(listener, self._peer, self._has_room, tls)
        self._acceptor.start()
        self._schedule_sweep()

    def open(self) -> Mapping[str, int]:
        """Count what is open: connections, checks in flight, and calls of Envoy's access log."""
        reports = sum(peer.reports for peer in self.peers)
        silent = 0 if self._acceptor is None else self._acceptor.count
        calls = sum(peer.streams for peer in self.peers)
        return {"connections": len(self.peers) + silent, "checks": calls - reports, "reports": reports}

    def closed(self) -> Mapping[str, int]:
        """Count the connections that were refused or closed to protect the process, by cause."""
        acceptor = self._acceptor
        return {
            **self._closed,
            "silent": 0 if acceptor is None else acceptor.silenced,
            "no_descriptor": 0 if acceptor is None else acceptor.refused,
            "queue_full": 0 if acceptor is None else acceptor.unopened,
        }

    def serve_health(self, *, serving: bool) -> None:
        """Set the result of Envoy's health checks."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        self.health = health_pb2.HealthCheckResponse(status=status).SerializeToString()

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, send GOAWAY, and close each connection when its calls have responses."""
        if self._acceptor is None:
            return
        self._acceptor.close()
        await self._acceptor.opened()
        for peer in list(self.peers):
            peer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._all_closed.wait()
        for peer in list(self.peers):
            peer.abort()
        if self._sweep is not None:
            self._sweep.cancel()

    def admits(self, transport: asyncio.BaseTransport) -> bool:
        """Return whether the client may stay, by the names of its certificate."""
        return self._tls is None or self._tls.admits(transport)

    def add(self, peer: Peer) -> None:
        """Register a connection."""
        self.peers.add(peer)
        self._unproven[peer] = None
        self._all_closed.clear()

    def prove(self, peer: Peer) -> None:
        """Note that a connection has sent a complete request: it is not closed for a newer one."""
        self._unproven.pop(peer, None)

    def remove(self, peer: Peer) -> None:
        """Unregister a connection."""
        self.peers.discard(peer)
        self._unproven.pop(peer, None)
        if not self.peers:
            self._all_closed.set()

    def _peer(self) -> Peer:
        return Peer(self)

    def _has_room(self) -> bool:
        """Return whether a new connection may stay, after closing an older one that is worth less where needed."""
        acceptor = self._acceptor
        if acceptor is None or len(self.peers) + acceptor.count < self._connections_max or acceptor.evict_silent():
            return True
        if not self._unproven:
            self._closed[_FULL] += 1
            _log.warning("connection refused", extra={"connections": len(self.peers)})
            return False
        peer = next(iter(self._unproven))
        self._closed[_EVICTED] += 1
        self.remove(peer)  # at once: its end is reported later
        peer.abort()
        return True

    def _make_room(self, held_bytes: int) -> bool:
        """Close the connection with the most bytes of incomplete requests, unless it holds just `held_bytes`."""
        largest = max(self.peers, key=lambda peer: peer.upload_bytes, default=None)
        if largest is None or largest.upload_bytes <= held_bytes:
            return False
        self._close_heaviest(largest, _UPLOADS, largest.upload_bytes)
        return True

    def _schedule_sweep(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._run_sweep)

    def _run_sweep(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._acceptor is not None:
            self._acceptor.expire()
        for peer in list(self.peers):
            peer.expire(now_s)
        self._limit(_CALLS, {peer: peer.streams for peer in self.peers}, _STREAMS_MAX)
        self._limit(_BUFFERS, {peer: peer.buffered_bytes for peer in self.peers}, _BUFFERED_BYTES_MAX)
        self._schedule_sweep()

    def _limit(self, what: str, amounts: dict[Peer, int], total_max: int) -> None:
        total = sum(amounts.values())
        if total <= total_max:
            return
        for peer, amount in sorted(amounts.items(), key=lambda item: -item[1]):
            if total <= total_max:
                return
            total -= amount
            self._close_heaviest(peer, what, amount)

    def _close_heaviest(self, peer: Peer, what: str, amount: int) -> None:
        self._closed[what] += 1
        _log.warning("connection closed, the process holds too much", extra={"what": what, "amount": amount})
        self.remove(peer)
        peer.close_now()
