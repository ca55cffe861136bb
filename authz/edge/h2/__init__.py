"""The server side of HTTP/2 for gRPC, as bytes in and bytes out: RFC 9113, RFC 7541 and gRPC over HTTP/2.

Contains no sockets and no event loop. The listener owns those, so every line here is tested without either.
"""

from authz.edge.h2.call import Call, Method
from authz.edge.h2.connection import Connection
from authz.edge.h2.events import Cancelled, Ended, Event, Request
from authz.edge.h2.limits import Limits, UploadBudget

__all__ = ["Call", "Cancelled", "Connection", "Ended", "Event", "Limits", "Method", "Request", "UploadBudget"]
