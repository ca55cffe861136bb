"""What one peer may ask of one connection, and how much nuisance it may make of itself.

Limits across connections belong to the listener.
"""

from dataclasses import dataclass

from authz.edge.h2.wire import FRAME_BYTES_MAX, WINDOW_DEFAULT, WINDOW_MAX, ConnectionFault, ErrorCode


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection.

    `streams_max` counts calls not yet answered in full. A header list over `header_list_bytes_max` costs one call, a
    header block over `header_block_bytes_max` the connection: the latter must be out of reach of whatever a proxy
    copies from its own callers. `message_bytes_max` bounds one gRPC message, `upload_bytes_max` what is held of all
    requests that are incomplete. The windows are the credit the peer gets for sending. Nuisances (pings, resets,
    settings, frames without effect, errors) may come in a burst of `nuisances_max`, then at `nuisances_per_s`.
    """

    streams_max: int = 2_048
    header_list_bytes_max: int = 16_384
    header_block_bytes_max: int = 131_072
    message_bytes_max: int = 4_194_304
    upload_bytes_max: int = 16_777_216
    stream_window_bytes: int = 262_144
    connection_window_bytes: int = 1_048_576
    nuisances_max: int = 10_000
    nuisances_per_s: float = 2_000.0

    def __post_init__(self) -> None:
        for window_bytes in (self.stream_window_bytes, self.connection_window_bytes):
            # A peer counts on the default until it has read our settings.
            if not WINDOW_DEFAULT <= window_bytes <= WINDOW_MAX:
                raise ValueError(f"a window is {WINDOW_DEFAULT} to {WINDOW_MAX} bytes, not {window_bytes}")
        if self.message_bytes_max < FRAME_BYTES_MAX:
            raise ValueError(f"messages up to {FRAME_BYTES_MAX} bytes are always accepted")


class Patience:
    """A token bucket of nuisances.

    One guard for all floods, since all of them are frames that cost us work and the peer nothing: rapid reset
    (CVE-2023-44487) and its server-sent variant (CVE-2025-8671), pings, settings, empty frames, continuations
    (CVE-2019-9512 to 9518, CVE-2024-24549).
    """

    __slots__ = ("_left", "_max", "_per_s", "_seen_s", "now_s")

    def __init__(self, limits: Limits) -> None:
        self._max = limits.nuisances_max
        self._per_s = limits.nuisances_per_s
        self._left = float(self._max)
        self._seen_s = 0.0
        self.now_s = 0.0

    def spend(self) -> None:
        """Count one nuisance; raises `ConnectionFault` when there were too many."""
        self._left = min(self._max, self._left + (self.now_s - self._seen_s) * self._per_s)
        self._seen_s = self.now_s
        if self._left < 1:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without effect")
        self._left -= 1
