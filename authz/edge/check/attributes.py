"""Envoy's CheckRequest to the core's request attributes.

Between requests mostly the API key and the request id differ among the headers. So the serialised header map is split
at the key and before the id at its end, and the rest is parsed once and cached. Otherwise protobuf creates several
objects for each request.
"""

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

from google.protobuf.message import DecodeError

from authz._pb.base_pb2 import HeaderMap, HeaderValue
from authz._pb.check_pb2 import AttributeContext, CheckRequest
from authz.core.addresses import CHARS_MAX
from authz.core.check import BodyForm, RequestAttributes
from authz.core.policy.overrides import METHOD_HEADERS, PATH_HEADERS, Override, override_of
from authz.core.policy.policy import KeyRules
from authz.core.reserved_headers import is_refused, may_be_reserved, reserved
from authz.core.traces.context import Traced
from authz.core.value import Value
from authz.edge.check.gaps import EnvoyGap, note, note_reserved

_HEADERS_MAX = 512  # Envoy itself accepts 100, unless its max_headers_count says otherwise
_PARTIAL = "x-envoy-auth-partial-body"
_OF_BODY = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding", _PARTIAL})
# Cached bytes contain no other headers: nothing secret, and few values that differ between requests.
_CACHED_HEADERS = METHOD_HEADERS | PATH_HEADERS | _OF_BODY
_CACHED_BYTES_MAX, _CACHE_MAX = 256, 4_096
# Set by Envoy, which removes a client's header of this name. Present only where Envoy's configuration sends it.
_EXTERNAL_ADDRESS = "x-envoy-external-address"
_CONTENT_TYPE_BYTES_MAX = 128
_REQUEST_ID, _REQUEST_ID_BYTES, _REQUEST_ID_BYTES_MAX = "x-request-id", 36, 256  # Envoy writes a UUID
_TOO_LONG = b"[too long]"
K = TypeVar("K")

_GRPC, _GRPC_SUBTYPE = b"application/grpc", b"application/grpc+"


class _HeaderFlags(Value):
    """The attributes from the headers beside the key (`RequestAttributes`)."""

    is_grpc: bool
    overrides: Override | None
    has_body: bool
    has_length: bool
    body_form: BodyForm
    reserved_headers: tuple[str, ...] = ()


_Headers: TypeAlias = tuple[_HeaderFlags, tuple[bytes, ...], bytes, bytes]
"""What all headers tell: the flags, the keys, the request id, and the client's address as Envoy's hops have it."""


class _Source(Value):
    """The client address: from Envoy's trusted hops where it sends them, otherwise the downstream peer.

    Holds no reference to the request, so that its memory is free for the next one.
    """

    peer: bytes
    external: bytes

    def __call__(self) -> str:
        if self.external:
            return self.external[:CHARS_MAX].decode(errors="replace")
        return AttributeContext.Peer.FromString(self.peer).address.socket_address.address


class AttributesReader:
    """The reader for one API, whose keys are in the header `keys.header`."""

    def __init__(self, keys: KeyRules) -> None:
        self._key_header = keys.header
        self._key_bytes = keys.format.chars
        self._of_key, self._behind_key = slice(self._key_bytes), slice(self._key_bytes, None)
        self._before_id, self._of_id = slice(self._key_bytes, -_REQUEST_ID_BYTES), slice(-_REQUEST_ID_BYTES, None)
        self._head = _head(keys.header, self._key_bytes)
        self._id_head = _head(_REQUEST_ID, _REQUEST_ID_BYTES)
        # By the bytes before the key, and those behind it that end before a request id at the end, with the beginning
        # of its header: most requests are so.
        self._usual: dict[tuple[bytes, bytes], _HeaderFlags] = {}
        # By the bytes before a key, behind it, and behind a request id. The first and the last may be missing.
        self._around: dict[tuple[bytes, bytes, bytes], _HeaderFlags] = {}

    def read(self, request: CheckRequest, call: Traced | None = None) -> RequestAttributes:
        """Read the attributes of one request; raises `DecodeError` where its headers cannot be read.

        `call` has the trace context of the check.
        """
        attributes = request.attributes
        http = attributes.request.http
        before, head, rest = http.header_map.partition(self._head)
        key, external = rest[self._of_key], b""
        flags = self._usual.get((before, rest[self._before_id]))
        if flags is not None:
            api_keys: tuple[bytes, ...] = (key,)
            request_id = rest[self._of_id]
        else:
            flags, api_keys, request_id, external = self._parsed(http, before, rest, has_key=bool(head))
        method = http.method
        has_body = flags.has_body
        if not has_body and not flags.has_length and method != "GET" and method != "HEAD":  # noqa: PLR1714 -- a set is slower
            # Only HTTP/1 announces every body (RFC 9112 section 6.3).
            has_body = not http.protocol.startswith("HTTP/1")
        body = http.raw_body
        if not body and (text := http.body):
            # Envoy puts an exclamation mark where a text is not UTF-8, so one may stand for any byte.
            has_body, body = True, b"" if "!" in text else text.encode()
            note(EnvoyGap.BODY_TEXT)
        return RequestAttributes(
            http.id,
            method,
            http.path,
            api_keys,
            flags.is_grpc,
            flags.overrides,
            has_body,
            body,
            _Source(attributes.source, external),
            flags.reserved_headers,
            flags.body_form,
            request_id,
            call,
        )

    def _parsed(self, http: AttributeContext.HttpRequest, before: bytes, rest: bytes, *, has_key: bool) -> _Headers:
        """Read headers that are not as usual, from the cache where nothing but the key and the request id is new."""
        middle, id_head, tail = (rest[self._behind_key] if has_key else before).partition(self._id_head)
        around = before if has_key else b"", middle, tail[_REQUEST_ID_BYTES:]
        is_whole = len(rest) >= self._key_bytes if has_key else bool(before)  # empty where Envoy sends the other form
        is_whole = is_whole and len(tail) >= _REQUEST_ID_BYTES * bool(id_head)
        if is_whole and (flags := self._around.get(around)) is not None:
            return flags, (rest[self._of_key],) if has_key else (), tail[:_REQUEST_ID_BYTES], b""
        headers = _headers(http)
        flags = _header_flags(headers, self._key_header)
        if is_whole and _is_cacheable(around, self._key_header):
            is_usual = has_key and len(tail) == _REQUEST_ID_BYTES
            if is_usual:
                _keep(self._usual, (before, middle + id_head), flags)
            else:
                _keep(self._around, around, flags)
        api_keys = tuple(_value(header) for header in headers if header.key == self._key_header)
        external = next((_value(header) for header in headers if header.key == _EXTERNAL_ADDRESS), b"")
        return flags, api_keys, _request_id(headers), external


def _is_cacheable(around: Sequence[bytes], key_header: str) -> bool:
    """Tell whether bytes are complete headers with nothing secret: then any key and id can stand between them.

    Messages are merged by concatenating their bytes
    (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
    """
    if sum(map(len, around)) > _CACHED_BYTES_MAX:
        return False
    try:
        headers = [header for part in around for header in HeaderMap.FromString(part).headers[:]]
    except DecodeError:
        return False
    return all(header.key in _CACHED_HEADERS and header.key != key_header for header in headers)


def _keep(cache: dict[K, _HeaderFlags], around: K, flags: _HeaderFlags) -> None:
    if len(cache) >= _CACHE_MAX:
        cache.clear()
    cache[around] = flags


def _head(name: str, value_bytes: int) -> bytes:
    """Return the bytes before a value of this length. They contain the lengths, so they start a complete header."""
    value = bytes(value_bytes)
    return HeaderMap(headers=[HeaderValue(key=name, raw_value=value)]).SerializeToString()[:-value_bytes]


def _request_id(headers: Sequence[HeaderValue]) -> bytes:
    found = next((_value(header) for header in headers if header.key == _REQUEST_ID), b"")
    return found if len(found) <= _REQUEST_ID_BYTES_MAX else _TOO_LONG


def _header_flags(headers: Sequence[HeaderValue], key_header: str) -> _HeaderFlags:
    overrides: Override | None = None
    of_body: list[tuple[str, bytes]] = []
    candidates: list[str] = []
    for header in headers:
        name = header.key
        if name in _OF_BODY:
            of_body.append((name, _value(header)))
        elif (found := override_of(name)) is not None:
            overrides = overrides if overrides is Override.ALIAS else found
        elif may_be_reserved(name, key_header):
            candidates.append(name)
    names = reserved(candidates, key_header) if candidates else ()
    if names:
        note_reserved(is_refused=is_refused(names))
    types, lengths = _values(of_body, "content-type"), _values(of_body, "content-length")
    has_body = any(value != b"0" for value in lengths) or bool(_values(of_body, "transfer-encoding"))
    # As Envoy decides. gRPC-Web clients get an HTTP response; only native gRPC has trailers for a status.
    is_grpc = bool(types) and (types[-1] == _GRPC or types[-1].startswith(_GRPC_SUBTYPE))
    return _HeaderFlags(is_grpc, overrides, has_body, bool(lengths), _body_form(of_body, types), names)


def _body_form(of_body: Sequence[tuple[str, bytes]], types: Sequence[bytes]) -> BodyForm:
    is_partial = any(value != b"false" for value in _values(of_body, _PARTIAL))
    if is_partial:
        note(EnvoyGap.BODY_PARTIAL)
    # Replaced, not cut: the beginning alone may be another type.
    content_types = [value if len(value) <= _CONTENT_TYPE_BYTES_MAX else _TOO_LONG for value in types]
    is_encoded = any(value.lower() != b"identity" for value in _values(of_body, "content-encoding"))
    return BodyForm(b",".join(content_types).decode("latin-1"), is_partial, is_encoded)


def _values(headers: Sequence[tuple[str, bytes]], name: str) -> list[bytes]:
    return [value for each, value in headers if each == name]


def _headers(http: AttributeContext.HttpRequest) -> Sequence[HeaderValue]:
    """Return the headers from either of the two forms that Envoy sends."""
    if http.header_map:
        headers = HeaderMap.FromString(http.header_map).headers
        if len(headers) > _HEADERS_MAX:
            raise DecodeError("too many headers")
        return headers[:]  # a list, which is faster to iterate
    if len(http.headers) > _HEADERS_MAX:
        raise DecodeError("too many headers")
    # Without encode_raw_headers, repeated values are joined by a comma, which no key contains.
    if http.headers:
        note(EnvoyGap.RAW_HEADERS)
    return [HeaderValue(key=name, value=value) for name, value in http.headers.items()]


def _value(header: HeaderValue) -> bytes:
    return header.raw_value or header.value.encode()
