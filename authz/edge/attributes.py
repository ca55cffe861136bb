"""From Envoy's CheckRequest to the core's attributes.

Most requests carry one header that is of any interest, the key. Such a header map is recognised by its bytes, because
protobuf would make five objects to say the same, which takes a fifteenth of the check.
"""

from functools import partial

from authz._pb.base_pb2 import HeaderMap, HeaderValue
from authz._pb.check_pb2 import AttributeContext, CheckRequest
from authz.core.check import RequestAttributes
from authz.core.policy import KeyRules

METHOD_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})

# Set by Envoy, which takes off what a client sends under this name; only sent here where it is told to.
_EXTERNAL_ADDRESS = "x-envoy-external-address"
_ADDRESS_CHARS_MAX = 45  # an IPv6 address that ends in an IPv4 one
_GRPC, _GRPC_WEB = b"application/grpc", b"application/grpc-web"


class AttributesReader:
    """Reads the requests of one API, whose keys travel in the header `keys.header`."""

    def __init__(self, keys: KeyRules) -> None:
        self._key_header = keys.header
        # Whatever begins like this and is as long holds this one header and nothing else: its lengths say so.
        key = bytes(keys.format.chars)
        alone = HeaderMap(headers=[HeaderValue(key=keys.header, raw_value=key)]).SerializeToString()
        self._bytes_alone = len(alone)
        self._head_alone = alone.removesuffix(key)

    def read(self, request: CheckRequest) -> RequestAttributes:
        """Read the attributes of one request; raises `DecodeError` where its headers cannot be read."""
        attributes = request.attributes
        http = attributes.request.http
        told = http.header_map
        api_keys: tuple[bytes, ...] = ()
        is_grpc = overrides_method = has_body = False
        if len(told) == self._bytes_alone and told.startswith(self._head_alone):
            api_keys = (told[len(self._head_alone) :],)
        else:
            for header in _headers(http):
                name, value = header.key, header.raw_value or header.value.encode()
                if name == self._key_header:
                    api_keys += (value,)
                elif name == "content-type":
                    # gRPC-Web callers get an HTTP answer; only native gRPC has trailers to carry a status.
                    is_grpc = value.startswith(_GRPC) and not value.startswith(_GRPC_WEB)
                elif name == "content-length":
                    has_body = value != b"0"
                elif name == "transfer-encoding":
                    has_body = True
                elif name in METHOD_OVERRIDES:
                    overrides_method = True
        return RequestAttributes(
            http.id,
            http.method,
            http.path,
            api_keys,
            is_grpc,
            overrides_method,
            has_body,
            http.raw_body or http.body.encode(),
            partial(_source_address, attributes),
        )


def _source_address(attributes: AttributeContext) -> str:
    """Read whom Envoy takes for the client: by its trusted hops where it tells, else whoever is connected to it."""
    for header in _headers(attributes.request.http):
        if header.key == _EXTERNAL_ADDRESS:
            return (header.raw_value or header.value.encode())[:_ADDRESS_CHARS_MAX].decode(errors="replace")
    peer = AttributeContext.Peer.FromString(attributes.source)
    return peer.address.socket_address.address


def _headers(http: AttributeContext.HttpRequest) -> list[HeaderValue]:
    """List the headers in whichever of the two forms Envoy sent them."""
    if http.header_map:
        return HeaderMap.FromString(http.header_map).headers[:]  # as a list, which is quicker to go through
    # Without encode_raw_headers, repeated values arrive joined by a comma, which no key contains.
    return [HeaderValue(key=name, value=value) for name, value in http.headers.items()]
