"""What a connection of the check listener needs of its listener, which is `listener.py`."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from authz.edge.check.messages import Checks
from authz.edge.h2 import UploadBudget
from authz.service.check.checker import Checker

if TYPE_CHECKING:
    from authz.edge.check.peer import Peer


class PeerOwner(Protocol):
    """What a connection needs of its listener."""

    checks: Checks
    check_s_max: float
    checker: Checker
    health: bytes
    uploads: UploadBudget

    def admits(self, transport: asyncio.BaseTransport) -> bool:
        """Return whether the client may stay."""
        ...

    def add(self, peer: "Peer") -> None:
        """Register a connection."""
        ...

    def prove(self, peer: "Peer") -> None:
        """Note that a connection has sent a complete request."""
        ...

    def remove(self, peer: "Peer") -> None:
        """Unregister a connection."""
        ...
