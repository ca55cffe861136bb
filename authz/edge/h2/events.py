"""What a connection tells the listener, in the order in which it happened.

Headers alone are no event: a call is told of when there is something to do for it.
"""

from dataclasses import dataclass
from typing import TypeAlias

from authz.core.value import Value
from authz.edge.h2.call import Call


class Request(Value):
    """One message of a call, to be answered by its `stream_id`. A unary call gives one request, when it is complete."""

    stream_id: int
    call: Call
    message: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """A streaming call has sent its last message, and waits for the answer unless it was answered before."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Nobody waits for this call's answer any more."""

    stream_id: int


Event: TypeAlias = Request | Ended | Cancelled
