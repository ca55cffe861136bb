"""From Envoy's CheckRequest to the core's attributes.

From one request to the next it is mostly the key that differs among the headers. So a header map is cut at the key, and
what stands around it is read once and kept: protobuf would make a handful of objects each time to say the same.
"""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from authz._pb.base_pb2 import HeaderMap, HeaderValue
from authz._pb.check_pb2 import AttributeContext, CheckRequest
from authz.core.check import RequestAttributes
from authz.core.policy.policy import KeyRules
from authz.core.value import Value

METHOD_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})

# What is kept has no other headers: nothing that a caller keeps secret, and little that differs between all requests.
_KEPT = METHOD_OVERRIDES | {"content-type", "content-length", "transfer-encoding", "x-envoy-auth-partial-body"}
_KEPT_BYTES_MAX, _KEPT_MAX = 256, 4_096
# Set by Envoy, which takes off what a client sends under this name; only sent here where it is told to.
_EXTERNAL_ADDRESS = "x-envoy-external-address"
_ADDRESS_CHARS_MAX = 45  # an IPv6 address that ends in an IPv4 one
_GRPC, _GRPC_WEB = b"application/grpc", b"application/grpc-web"


class _Traits(Value):
    """What the headers beside the key say (`RequestAttributes`)."""

    is_grpc: bool
    overrides_method: bool
    has_body: bool


class _Source(Value):
    """Whom Envoy takes for the client: by its trusted hops where it tells, else whoever is connected to it.

    Not the whole request, whose memory is free for the next one as soon as it is read.
    """

    peer: bytes
    external: bytes

    def __call__(self) -> str:
        if self.external:
            return self.external[:_ADDRESS_CHARS_MAX].decode(errors="replace")
        return AttributeContext.Peer.FromString(self.peer).address.socket_address.address


class AttributesReader:
    """Reads the requests of one API, whose keys travel in the header `keys.header`."""

    def __init__(self, keys: KeyRules) -> None:
        self._key_header = keys.header
        self._key_bytes = keys.format.chars
        self._of_key, self._behind_key = slice(self._key_bytes), slice(self._key_bytes, None)
        # What stands before a key of the right length. It holds the lengths, so a whole header begins and ends there.
        key = bytes(self._key_bytes)
        self._head = HeaderMap(headers=[HeaderValue(key=keys.header, raw_value=key)]).SerializeToString()[: -len(key)]
        self._around: dict[tuple[bytes, bytes], _Traits] = {}

    def read(self, request: CheckRequest) -> RequestAttributes:
        """Read the attributes of one request; raises `DecodeError` where its headers cannot be read."""
        attributes = request.attributes
        http = attributes.request.http
        before, _, rest = http.header_map.partition(self._head)
        key, after = rest[self._of_key], rest[self._behind_key]
        traits = self._around.get((before, after))
        external = b""
        if traits is not None and len(key) == self._key_bytes:
            api_keys: tuple[bytes, ...] = (key,)
        else:
            headers = _headers(http)
            api_keys = tuple(_value(header) for header in headers if header.key == self._key_header)
            external = next((_value(header) for header in headers if header.key == _EXTERNAL_ADDRESS), b"")
            traits = _traits(headers)
            if len(key) == self._key_bytes:
                self._keep(before, after, traits)
        return RequestAttributes(
            http.id,
            http.method,
            http.path,
            api_keys,
            traits.is_grpc,
            traits.overrides_method,
            traits.has_body,
            http.raw_body or http.body.encode(),
            _Source(attributes.source, external),
        )

    def _keep(self, before: bytes, after: bytes, traits: _Traits) -> None:
        """Keep what stands around a key, if that is whole headers: then any other key stands there as well as this one.

        Messages are concatenated by concatenating their bytes
        (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
        """
        if len(before) + len(after) > _KEPT_BYTES_MAX:
            return
        try:
            headers = [header for part in (before, after) for header in HeaderMap.FromString(part).headers[:]]
        except DecodeError:
            return
        if all(header.key in _KEPT and header.key != self._key_header for header in headers):
            if len(self._around) >= _KEPT_MAX:
                self._around.clear()
            self._around[before, after] = traits


def _traits(headers: Sequence[HeaderValue]) -> _Traits:
    is_grpc = overrides_method = has_body = False
    for header in headers:
        name = header.key
        if name == "content-type":
            # gRPC-Web callers get an HTTP answer; only native gRPC has trailers to carry a status.
            is_grpc = _value(header).startswith(_GRPC) and not _value(header).startswith(_GRPC_WEB)
        elif name == "content-length":
            has_body = has_body or _value(header) != b"0"
        elif name == "transfer-encoding":
            has_body = True
        elif name in METHOD_OVERRIDES:
            overrides_method = True
    return _Traits(is_grpc, overrides_method, has_body)


def _headers(http: AttributeContext.HttpRequest) -> Sequence[HeaderValue]:
    """List the headers in whichever of the two forms Envoy sent them."""
    if http.header_map:
        return HeaderMap.FromString(http.header_map).headers[:]  # a list, because it is quicker to go through
    # Without encode_raw_headers, repeated values arrive joined by a comma, which no key contains.
    return [HeaderValue(key=name, value=value) for name, value in http.headers.items()]


def _value(header: HeaderValue) -> bytes:
    return header.raw_value or header.value.encode()
