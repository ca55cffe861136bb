"""Streams that stay open, as frozen values: their classes, the leases that stand for them, and how many there are.

Where leases are counted is `adapters/redis_leases.py`; when one is taken and given back is `service/leases.py`.
"""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class StreamClass:
    """A class of streams: how many may be open at once, and how long a lease lives without a sign of life.

    `title` is what its streams are called in a refusal, in the plural.
    """

    name: str
    per_key: int
    per_account: int
    ttl_s: int
    title: str = "streams"


@dataclass(frozen=True, slots=True)
class Lease:
    """One open stream's slot. `lease_id` is Envoy's id of the request that opened the stream; `stream` names the class.

    Whoever hears of a stream can make its lease anew from these four, and renew what another took.
    """

    lease_id: str
    account_id: str
    key_id: str
    stream: str


@dataclass(frozen=True, slots=True)
class Opening:
    """A stream that is about to open: Envoy's id of the request, and for how many seconds a slot is taken at first."""

    request_id: str
    stream: StreamClass
    pending_s: float


class AcquireOutcome(StrEnum):
    """What came of asking for a lease; a single letter, as the store replies it."""

    GRANTED = "g"
    KEY_FULL = "k"
    ACCOUNT_FULL = "a"
    STOPPED = "s"  # the key has been revoked, disabled or suspended since it was looked up
    ENDED = "e"  # the stream is over: the question was late


class RenewOutcome(StrEnum):
    """What came of renewing a lease; a single letter, as the store replies it."""

    KEPT = "k"
    RETAKEN = "t"  # it had expired or was lost, and its stream still lives
    STOPPED = "s"  # its key has been stopped: it runs out
    ENDED = "e"  # the stream is over: the sign of life was late


class ReleaseCause(StrEnum):
    """Why a lease came to its end: a metric label."""

    END = "end"  # the stream ended
    EXPIRY = "expiry"  # no sign of life for too long
    UNWANTED = "unwanted"  # nobody waited for the check that took it


@dataclass(frozen=True, slots=True)
class Acquisition:
    """The store's answer: how many streams the key and the account have open, this one included where it was granted.

    `expired` counts leases of the account that were found to have run out.
    """

    outcome: AcquireOutcome
    of_key: int = 0
    of_account: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Renewal:
    """The store's answer to a sign of life. `exceeds` tells that taking the lease again went over a cap."""

    outcome: RenewOutcome
    exceeds: bool = False


@dataclass(frozen=True, slots=True)
class StreamUse:
    """How many streams of a class are open, for the caller to see. `lease_id` is empty where none was granted."""

    stream: StreamClass
    of_key: int
    of_account: int
    lease_id: str = ""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A lease as an operator sees it. Times are Unix time in milliseconds; `seen_at_ms` is 0 before a sign of life.

    `is_stopped` tells that its key no longer works: the stream is not counted any more and lasts until its route's
    maximum.
    """

    lease: Lease
    opened_at_ms: int
    expires_at_ms: int
    seen_at_ms: int
    is_stopped: bool
