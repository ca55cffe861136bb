"""Long-lived streams as frozen values: classes, leases and counts.

`adapters/redis/leases.py` counts leases; `service/check/leases.py` acquires, renews and releases them.
"""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class StreamClass:
    """A class of streams: how many may be open at once, and how long a lease lasts without a heartbeat.

    `title` is the plural noun for its streams in a refusal.
    """

    name: str
    per_key: int
    per_account: int
    ttl_s: int
    title: str = "streams"


@dataclass(frozen=True, slots=True)
class Lease:
    """One open stream's slot. `lease_id` is Envoy's id of the request that opened the stream; `stream` names the class.

    These four fields suffice to recreate a lease, so any sidecar can renew a lease that another one acquired.
    """

    lease_id: str
    account_id: str
    key_id: str
    stream: str


@dataclass(frozen=True, slots=True)
class Opening:
    """A stream that is about to open: Envoy's id of the request, and the first life of its lease in seconds."""

    request_id: str
    stream: StreamClass
    pending_s: float


class AcquireOutcome(StrEnum):
    """The outcome of acquiring a lease; a single letter, as the store replies it."""

    GRANTED = "g"
    KEY_FULL = "k"
    ACCOUNT_FULL = "a"
    STOPPED = "s"  # the key has been revoked, disabled or suspended since it was looked up
    ENDED = "e"  # the stream has ended: the call came too late


class RenewOutcome(StrEnum):
    """The outcome of renewing a lease; a single letter, as the store replies it."""

    KEPT = "k"
    RETAKEN = "t"  # it had expired or was lost, and its stream is still open
    STOPPED = "s"  # its key was stopped: the lease expires
    ENDED = "e"  # the stream has ended: the heartbeat came too late


class ReleaseCause(StrEnum):
    """Why a lease ended: a metric label."""

    END = "end"  # the stream ended
    EXPIRY = "expiry"  # no heartbeat for too long
    UNWANTED = "unwanted"  # the caller of the check that acquired it had gone


@dataclass(frozen=True, slots=True)
class Acquisition:
    """The store's reply: how many streams the key and the account have open, including this one if it was granted.

    `expired` counts leases of the account that were found expired.
    """

    outcome: AcquireOutcome
    of_key: int = 0
    of_account: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Renewal:
    """The store's reply to a heartbeat. `exceeds` tells that reacquiring the lease exceeded a cap."""

    outcome: RenewOutcome
    exceeds: bool = False


@dataclass(frozen=True, slots=True)
class StreamUse:
    """How many streams of a class are open, shown to the caller. `lease_id` is empty if no lease was granted."""

    stream: StreamClass
    of_key: int
    of_account: int
    lease_id: str = ""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A lease as an operator sees it. Times are Unix times in ms; `seen_at_ms` is 0 before the first heartbeat.

    `is_stopped` tells that its key is no longer valid: the stream is no longer counted and lasts until its route's
    maximum.
    """

    lease: Lease
    opened_at_ms: int
    expires_at_ms: int
    seen_at_ms: int
    is_stopped: bool
