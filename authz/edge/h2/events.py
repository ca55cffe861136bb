"""The events of a connection for its listener, in the order of arrival.

Headers alone are no event: the first event of a call is its first message.
"""

from dataclasses import dataclass
from typing import TypeAlias

from authz.core.value import Value
from authz.edge.h2.call import Call


class Request(Value):
    """One message of a call. The response needs its `stream_id`. A unary call has one request, when it is complete."""

    stream_id: int
    call: Call
    message: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """A streaming call has sent its last message. It waits for a response unless it already has one."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The peer reset this call or the connection closed: a response is no longer possible."""

    stream_id: int


Event: TypeAlias = Request | Ended | Cancelled
