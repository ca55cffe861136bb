"""CheckResponses as bytes, put together from pieces that come again.

A message's bytes are the bytes of its parts in the order of their field numbers, so protobuf writes each part once and
the parts are joined. What the parts say is `codec.py`; a test holds every answer against what protobuf writes for it.
"""

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.struct_pb2 import Struct

from authz._pb.check_pb2 import OkHttpResponse
from authz.core.check import Allow, Bucket, Decision, Deny, Principal, RequestAttributes
from authz.core.limits import Limit, full_after_s
from authz.core.policy import Policy
from authz.edge.codec import encode, identity_headers, options, rate_headers

PIECES_MAX = 16_384

_STATUS_OK = b"\x0a\x00"  # field 1, an empty Status: code 0
_OK_RESPONSE = b"\x1a"  # field 3, of a length
_METADATA = b"\x22"  # field 4, of a length
_LOW_BITS = 0x7F

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Caller:
    """What an answer says of one caller: its headers and its entries of the metadata."""

    headers: bytes
    account: bytes
    key: bytes


class Answers:
    """Writes the answers of one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._nobody = _Caller(OkHttpResponse(headers_to_remove=[policy.keys.header]).SerializeToString(), b"", b"")
        self._allow = _entry("decision", "allow")
        self._callers: dict[Principal, _Caller] = {}
        self._rates: dict[tuple[Limit, int, int], bytes] = {}
        self._routes: dict[str, bytes] = {}
        self._refusals: dict[tuple[bool, Deny], bytes] = {}

    def write(self, attributes: RequestAttributes, decision: Decision) -> bytes:
        """Write the answer to one request, as `encode` and protobuf would."""
        if isinstance(decision, Allow):
            if decision.would_deny is None:
                return self._permission(decision)
        elif decision.principal is None and not decision.detail:
            key = (attributes.is_grpc, decision)
            return self._refusals.get(key) or _kept(self._refusals, key, self._encoded(attributes, decision))
        return self._encoded(attributes, decision)

    def _encoded(self, attributes: RequestAttributes, decision: Decision) -> bytes:
        return encode(self.policy, attributes, decision).SerializeToString(deterministic=True)

    def _permission(self, allow: Allow) -> bytes:
        principal, bucket, template = allow.principal, allow.bucket, allow.route.template
        caller = self._nobody
        if principal is not None:
            caller = self._callers.get(principal) or _kept(self._callers, principal, self._caller(principal))
        ok = caller.headers if bucket is None else caller.headers + self._rate(bucket)
        route = self._routes.get(template) or _kept(self._routes, template, _entry("route", template))
        metadata = caller.account + self._allow + caller.key + route
        return b"".join((_STATUS_OK, _OK_RESPONSE, _length(ok), ok, _METADATA, _length(metadata), metadata))

    def _caller(self, principal: Principal) -> _Caller:
        headers = OkHttpResponse(
            headers=options(identity_headers(principal)), headers_to_remove=[self.policy.keys.header]
        )
        account, key = _entry("account_id", principal.account_id), _entry("key_id", principal.key_id)
        return _Caller(headers.SerializeToString(), account, key)

    def _rate(self, bucket: Bucket) -> bytes:
        # What is sent is whole tokens and whole seconds: few buckets say anything new.
        shown = (bucket.limit, int(bucket.remaining), full_after_s(bucket.limit, bucket.remaining))
        found = self._rates.get(shown)
        if found is None:
            headers = options(rate_headers(self.policy.rate_headers, bucket))
            found = _kept(self._rates, shown, OkHttpResponse(response_headers_to_add=headers).SerializeToString())
        return found


def _entry(name: str, value: str) -> bytes:
    struct = Struct()
    struct.update({name: value})
    return struct.SerializeToString()


def _kept(pieces: dict[K, V], key: K, piece: V) -> V:
    if len(pieces) >= PIECES_MAX:
        pieces.clear()
    return pieces.setdefault(key, piece)


def _length(data: bytes) -> bytes:
    """Write a length as protobuf's varint."""
    size, out = len(data), b""
    while size > _LOW_BITS:
        out += bytes([size & _LOW_BITS | 0x80])
        size >>= 7
    return out + bytes([size])
