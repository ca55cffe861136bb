"""HTTP/2 requests without TLS and without the checks of well-behaved clients: any header name, and trailers."""

import json
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

Headers = list[tuple[str, str]]


@dataclass
class Response:
    """One response; `status` is 0 if the stream was reset."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def document(self) -> Any:  # noqa: ANN401 -- JSON
        return json.loads(self.body)


def send_h2(
    url: str,
    method: str,
    target: str,
    *headers: tuple[str, str],
    body: bytes = b"",
    trailers: Headers | None = None,
    authority: str | None = "",
) -> Response:
    """Send one request on a new connection, with trailers after the body if there are any.

    The authority is that of the URL unless there is another one; with None there is none.
    """
    where = urlsplit(url)
    connection = H2Connection(
        H2Configuration(
            header_encoding="latin-1",
            normalize_outbound_headers=False,
            validate_outbound_headers=False,
            validate_inbound_headers=False,
        )
    )
    pseudo = [(":method", method), (":path", target), (":scheme", "http")]
    pseudo += [] if authority is None else [(":authority", authority or where.netloc)]
    connection.initiate_connection()
    connection.send_headers(1, [*pseudo, *headers], end_stream=not body and not trailers)
    if body or trailers:
        connection.send_data(1, body, end_stream=not trailers)
    if trailers:
        connection.send_headers(1, trailers, end_stream=True)
    with socket.create_connection((where.hostname, where.port or 80), timeout=10) as peer:
        peer.sendall(connection.data_to_send())
        return _receive(connection, peer)


def _receive(connection: H2Connection, peer: socket.socket) -> Response:
    response = Response()
    while data := peer.recv(65_536):
        for event in connection.receive_data(data):
            match event:
                case ResponseReceived(headers=headers):
                    response.headers = {str(name): str(value) for name, value in headers or ()}
                    response.status = int(response.headers[":status"])
                case TrailersReceived(headers=headers):
                    response.trailers = {str(name): str(value) for name, value in headers or ()}
                case DataReceived(data=part):
                    response.body += part or b""
                case StreamEnded() | StreamReset() | ConnectionTerminated():
                    return response
                case _:
                    pass
        peer.sendall(connection.data_to_send())
    return response
