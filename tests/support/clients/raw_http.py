"""HTTP/1.1 as bytes: requests that well-behaved clients would refuse to send."""

import json
import socket
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

_LATE = 503


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def document(self) -> Any:  # noqa: ANN401 -- JSON
        return json.loads(self.body)

    @property
    def reached_backend(self) -> bool:
        return self.header("content-type") == "application/json" and "target" in self.document

    def backend_saw(self, name: str) -> list[str]:
        """Every value of a header that the backend received."""
        return [value for key, value in self.document["headers"] if key == name]


def send(
    url: str,
    method: str,
    target: str | bytes,
    *headers: tuple[str | bytes, str | bytes],
    body: bytes = b"",
    address: str = "127.0.0.1",
) -> Answer:
    """Send one request exactly as given, from one of this machine's addresses; the backend echoes it."""
    where = urlsplit(url)
    lines = [
        (b"host", f"{where.hostname}:{where.port}".encode()),
        (b"connection", b"close"),
        (b"x-demo-echo", b"1"),
        *((_bytes(name), _bytes(value)) for name, value in headers),
    ]
    if body:
        lines.append((b"content-length", str(len(body)).encode()))
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    peer = (where.hostname, where.port or 80)
    with socket.create_connection(peer, timeout=5, source_address=(address, 0)) as connection:
        connection.sendall(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method.encode(), _bytes(target), head, body))
        response = HTTPResponse(connection, method=method)
        response.begin()
        return Answer(
            response.status, [(name.lower(), value) for name, value in response.getheaders()], response.read()
        )


def send_settled(
    url: str, method: str, target: str, *headers: tuple[str | bytes, str | bytes], body: bytes = b""
) -> Answer:
    """Send one request, and repeat it while a store is late: on a busy machine, a key's first load may be."""
    while (answer := send(url, method, target, *headers, body=body)).status == _LATE:
        pass
    return answer


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
