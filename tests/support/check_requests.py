"""Requests for checks as Envoy sends them, with headers in either of its two forms."""

from authz._pb.base_pb2 import HeaderMap, HeaderValue
from authz._pb.check_pb2 import AttributeContext, CheckRequest

ID = b"0b1e64a5-93b4-4a4f-8a36-9f1c5d0c7b1e"
Header = tuple[str, bytes]


def message(*headers: Header, raw: bool = True, **http: str) -> CheckRequest:
    sent, peer = CheckRequest(), AttributeContext.Peer()
    peer.address.socket_address.address = "203.0.113.9"
    sent.attributes.source = peer.SerializeToString()
    target = sent.attributes.request.http
    target.id, target.method, target.path = "42", http.get("method", "GET"), http.get("path", "/v1/servers?x=1")
    target.body, target.protocol = http.get("body", ""), http.get("protocol", "HTTP/1.1")
    if raw:
        target.header_map = header_map(*headers).SerializeToString()
    else:
        for name, value in headers:
            target.headers[name] = value.decode()
    return sent


def header_map(*headers: Header) -> HeaderMap:
    return HeaderMap(headers=[HeaderValue(key=name, raw_value=value) for name, value in headers])
