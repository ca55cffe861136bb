"""HTTP/1.1 requests without a body, and responses, as bytes (RFC 9112).

Connections and time limits are in `http_server.py`.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus

HEAD_BYTES_MAX = 8_192
_FIELDS_MAX = 64
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]{1,2048}) HTTP/1\.([01])")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_END = b"\r\n\r\n"


class BadRequest(Exception):  # noqa: N818 -- an error of the client
    """A request that cannot be served; `status` is the response."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The head of one request. `keeps_alive` is whether the client permits further ones on its connection.

    `from_page` is whether a page in a browser may have caused it (it has an `origin`).
    """

    method: str
    path: str
    accept: str
    keeps_alive: bool
    query: str = ""
    from_page: bool = False


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One response; `fields` are further header lines, each with its line end."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    fields: bytes = b""


def take_request(buffer: bytearray) -> HttpRequest | None:
    """Remove the first request from what a client sent; None where it is incomplete. Raises `BadRequest`."""
    end = buffer.find(_END, 0, HEAD_BYTES_MAX)
    if end < 0:
        if len(buffer) >= HEAD_BYTES_MAX:
            raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        return None
    head = bytes(buffer[:end])
    del buffer[: end + len(_END)]
    line, *fields = head.split(b"\r\n", _FIELDS_MAX + 1)
    if len(fields) > _FIELDS_MAX:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    matched = _REQUEST_LINE.fullmatch(line)
    if matched is None:
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    known = _fields(fields)
    if b"transfer-encoding" in known or known.get(b"content-length", b"0") != b"0":
        is_read = matched[1] in {b"GET", b"HEAD"}
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE if is_read else HTTPStatus.METHOD_NOT_ALLOWED)
    keeps_alive = matched[3] == b"1" and known.get(b"connection", b"").lower() != b"close"
    accept = known.get(b"accept", b"").decode("latin-1")
    path, _, query = matched[2].decode().partition("?")
    return HttpRequest(matched[1].decode(), path, accept, keeps_alive, query, b"origin" in known)


def serialised(response: HttpResponse, *, is_head: bool, closes: bool) -> bytes:
    """Serialise a response; `closes` announces that the connection is closed after it."""
    head = (
        f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n"
        f"content-type: {response.content_type}\r\ncontent-length: {len(response.body)}\r\n"
    ).encode()
    head += response.fields + (b"connection: close\r\n\r\n" if closes else b"\r\n")
    return head if is_head else head + response.body


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    known: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise BadRequest(HTTPStatus.BAD_REQUEST)
        known[name.lower()] = value.strip(b" \t")
    return known
