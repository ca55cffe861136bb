"""The limits of one connection, and its flood guard.

Limits across connections are in the listener.
"""

from collections.abc import Callable
from dataclasses import dataclass

from authz.edge.h2.wire import FRAME_BYTES_MAX, WINDOW_DEFAULT, WINDOW_MAX, ConnectionFault, ErrorCode

# Until a peer has sent a complete request: enough for one of the largest.
_UNPROVEN_MAX, _UNPROVEN_PER_S, _UNPROVEN_UPLOAD_BYTES = 256, 100.0, 2_097_152


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one connection.

    `streams_max` limits calls without a complete response. A header list over `header_list_bytes_max` ends one call. A
    header block over `header_block_bytes_max` ends the connection, so this limit must be larger than anything that a
    proxy copies from its own clients. `message_bytes_max` limits one gRPC message, `upload_bytes_max` the buffered
    bytes of all incomplete requests. The windows are the flow-control credit of the peer. Nuisances (pings, resets,
    settings, frames without effect, errors) are permitted in a burst of `nuisances_max`, then at `nuisances_per_s`.
    """

    streams_max: int = 2_048
    header_list_bytes_max: int = 8_192
    header_block_bytes_max: int = 131_072
    message_bytes_max: int = 4_194_304
    upload_bytes_max: int = 16_777_216
    stream_window_bytes: int = 262_144
    connection_window_bytes: int = 1_048_576
    nuisances_max: int = 10_000
    nuisances_per_s: float = 2_000.0

    def __post_init__(self) -> None:
        for window_bytes in (self.stream_window_bytes, self.connection_window_bytes):
            # The peer uses the default until it has read our settings.
            if not WINDOW_DEFAULT <= window_bytes <= WINDOW_MAX:
                raise ValueError(f"a window must be {WINDOW_DEFAULT} to {WINDOW_MAX} bytes, not {window_bytes}")
        if self.message_bytes_max < FRAME_BYTES_MAX:
            raise ValueError(f"message_bytes_max must be at least {FRAME_BYTES_MAX} bytes")


class FloodGuard:
    """A token bucket for nuisances, and what a connection may hold; less until the peer has sent a request.

    One guard covers all floods, because each is a frame that costs the server work and the peer nothing: rapid reset
    (CVE-2023-44487) and its server-sent variant (CVE-2025-8671), pings, settings, empty frames, continuations
    (CVE-2019-9512 to 9518, CVE-2024-24549).
    """

    __slots__ = ("_limits", "_max", "_per_s", "_remaining", "_updated_s", "now_s", "upload_bytes_max")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._max = min(limits.nuisances_max, _UNPROVEN_MAX)
        self._per_s = min(limits.nuisances_per_s, _UNPROVEN_PER_S)
        self._remaining = float(self._max)
        self._updated_s = 0.0
        self.now_s = 0.0
        self.upload_bytes_max = min(limits.upload_bytes_max, _UNPROVEN_UPLOAD_BYTES)

    def prove(self) -> None:
        """Apply the full limits: the peer has sent a complete request. Until then reconnecting gains nothing."""
        self._remaining += self._limits.nuisances_max - self._max
        self._max = self._limits.nuisances_max
        self._per_s = self._limits.nuisances_per_s
        self.upload_bytes_max = self._limits.upload_bytes_max

    def spend(self, weight: int = 1) -> None:
        """Count a nuisance of some weight; raises `ConnectionFault` over the limit."""
        self._remaining = min(self._max, self._remaining + (self.now_s - self._updated_s) * self._per_s)
        self._updated_s = self.now_s
        if self._remaining < weight:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without effect")
        self._remaining -= weight


class UploadBudget:
    """The bytes of incomplete requests on all connections together, at most `bytes_max`.

    Over that, `make_room` is called with what the current connection holds. It closes the connection that holds most,
    or returns False where that is the current one.
    """

    __slots__ = ("_bytes_max", "_make_room", "used_bytes")

    def __init__(self, bytes_max: int, make_room: Callable[[int], bool]) -> None:
        self._bytes_max = bytes_max
        self._make_room = make_room
        self.used_bytes = 0

    def refuses(self, held_bytes: int) -> bool:
        """Return whether the connection that holds `held_bytes` must refuse a request, because there are too many."""
        return self.used_bytes > self._bytes_max and not self._make_room(held_bytes)
