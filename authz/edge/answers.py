"""CheckResponses as bytes, put together from pieces that come again.

A message's bytes are the bytes of its fields in the order of their numbers, so protobuf writes each piece once and the
pieces are joined. What they say is `codec.py`; a test holds every answer against what protobuf writes for it.
"""

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.struct_pb2 import Struct

from authz._pb.check_pb2 import CheckResponse, DeniedHttpResponse, OkHttpResponse
from authz.core.check import Allow, Bucket, Decision, Deny, Principal, RequestAttributes
from authz.core.limits import full_after_s
from authz.core.policy import Policy
from authz.core.streams import StreamUse
from authz.edge import codec

PIECES_MAX = 16_384

_STATUS_OK = CheckResponse(status={}).SerializeToString()
_DENIED, _OK, _METADATA, _ERROR = b"\x12", b"\x1a", b"\x22", b"\x2a"  # fields 2 to 5, of a length

K = TypeVar("K")
V = TypeVar("V")
Shown = tuple[int, float, int, int]


@dataclass(frozen=True, slots=True)
class _Caller:
    """What an answer says of one caller: its headers, and its entries of the metadata around those of an outcome."""

    principal: Principal | None
    headers: bytes
    allowed: bytes
    denied: bytes


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What every refusal of one request for one reason says: all but the caller's and the bucket's part."""

    status: bytes
    http: bytes
    body: bytes
    reason: bytes
    is_error: bool


class Answers:
    """Writes the answers of one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        nothing = OkHttpResponse(headers_to_remove=[policy.keys.header]).SerializeToString()
        self._allow, self._deny = _entry("decision", "allow"), _entry("decision", "deny")
        self._nobody = _Caller(None, nothing, self._allow, self._deny)
        self._callers: dict[str, _Caller] = {}
        self._rates: dict[Shown, bytes] = {}
        self._denied_rates: dict[Shown, bytes] = {}
        self._waits: dict[int, bytes] = {}
        self._routes: dict[str, bytes] = {}
        self._refusals: dict[tuple[object, ...], _Refusal] = {}

    def write(self, attributes: RequestAttributes, decision: Decision) -> bytes:
        """Write the answer to one request, as `encode` and protobuf would."""
        if not isinstance(decision, Allow):
            return self._denial(attributes, decision)
        principal, bucket, template = decision.principal, decision.bucket, decision.route.template
        caller = self._nobody if principal is None else self._callers.get(principal.key_id)
        if caller is None or caller.principal is not principal:
            caller = self._caller(principal)
        ok = caller.headers
        if decision.streams is not None:
            return self._stream(decision, caller)
        if bucket is not None:
            shown = _shown(bucket)
            rate = self._rates.get(shown)
            # Not `or`: where a policy sends no rate headers this piece is empty, and would be made anew each time.
            ok += _kept(self._rates, shown, self._rate(bucket)) if rate is None else rate
        route = self._routes.get(template) or _kept(self._routes, template, _entry("route", template))
        if decision.would_deny is not None:
            route = _entry("reason", decision.would_deny.value) + route
        metadata = caller.allowed + route
        return b"".join((_STATUS_OK, _OK, _LENGTH[len(ok)], ok, _METADATA, _LENGTH[len(metadata)], metadata))

    def _stream(self, allow: Allow, caller: _Caller) -> bytes:
        """Write the answer to a request that opens a stream: rare, so nothing of what only it says is kept."""
        ok = caller.headers + self._rate(allow.bucket, allow.streams)
        entries = {} if allow.streams is None else codec.lease_fields(allow.streams)
        entries |= {} if allow.would_deny is None else {"reason": allow.would_deny.value}
        entries["route"] = allow.route.template
        described = b"".join(_entry(name, entries[name]) for name in sorted(entries))
        metadata = caller.allowed + described
        return b"".join((_STATUS_OK, _OK, _LENGTH[len(ok)], ok, _METADATA, _LENGTH[len(metadata)], metadata))

    def _denial(self, attributes: RequestAttributes, deny: Deny) -> bytes:
        row = None if deny.route is None else (deny.route.method, deny.route.template)
        key = (attributes.is_grpc, deny.reason, row, deny.methods, deny.streams and deny.streams.stream)
        refusal = self._refusals.get(key) or _kept(self._refusals, key, self._refusal(attributes, deny))
        caller = self._caller(deny.principal)
        http, wait_s, bucket = refusal.http, deny.retry_after_s, deny.bucket
        if wait_s is not None:
            http += self._waits.get(wait_s) or _kept(self._waits, wait_s, _wait(wait_s))
        if bucket is not None and deny.streams is not None:
            http += self._denied_rate(bucket, deny.streams)
        elif bucket is not None:
            shown = _shown(bucket)
            rate = self._denied_rates.get(shown)
            http += _kept(self._denied_rates, shown, self._denied_rate(bucket)) if rate is None else rate
        http += refusal.body
        metadata = caller.denied + refusal.reason
        described = _METADATA + _LENGTH[len(metadata)] + metadata
        if refusal.is_error:
            return b"".join((refusal.status, described, _ERROR, _LENGTH[len(http)], http))
        return b"".join((refusal.status, _DENIED, _LENGTH[len(http)], http, described))

    def _caller(self, principal: Principal | None) -> _Caller:
        if principal is None:
            return self._nobody
        found = self._callers.get(principal.key_id)
        if found is not None and found.principal == principal:
            return found
        headers = codec.options(codec.identity_headers(principal))
        account, key = _entry("account_id", principal.account_id), _entry("key_id", principal.key_id)
        caller = _Caller(
            principal,
            OkHttpResponse(headers=headers, headers_to_remove=[self.policy.keys.header]).SerializeToString(),
            account + self._allow + key,
            account + self._deny + key,
        )
        if len(self._callers) >= PIECES_MAX:
            self._callers.clear()
        self._callers[principal.key_id] = caller
        return caller

    def _refusal(self, attributes: RequestAttributes, deny: Deny) -> _Refusal:
        headers, body = codec.refusal_text(self.policy, attributes, deny)
        reason = _entry("reason", deny.reason.value)
        return _Refusal(
            status=CheckResponse(status=codec.status(deny)).SerializeToString(),
            http=DeniedHttpResponse(status=codec.http_status(deny), headers=codec.options(headers)).SerializeToString(),
            body=DeniedHttpResponse(body=body).SerializeToString(),
            reason=reason if deny.route is None else reason + _entry("route", deny.route.template),
            is_error=codec.is_error(deny),
        )

    def _rate(self, bucket: Bucket | None, use: StreamUse | None = None) -> bytes:
        headers = codec.options(codec.rate_headers(self.policy.rate_headers, bucket, use))
        return OkHttpResponse(response_headers_to_add=headers).SerializeToString()

    def _denied_rate(self, bucket: Bucket, use: StreamUse | None = None) -> bytes:
        headers = codec.options(codec.rate_headers(self.policy.rate_headers, bucket, use))
        return DeniedHttpResponse(headers=headers).SerializeToString()


def _shown(bucket: Bucket) -> Shown:
    # What is sent is whole tokens and whole seconds: few buckets say anything new.
    limit, remaining = bucket.limit, bucket.remaining
    return limit.capacity, limit.refill_per_s, int(remaining), full_after_s(limit, remaining)


def _wait(seconds: int) -> bytes:
    return DeniedHttpResponse(headers=codec.options(codec.wait_headers(seconds))).SerializeToString()


def _entry(name: str, value: str) -> bytes:
    struct = Struct()
    struct.update({name: value})
    return struct.SerializeToString()


def _kept(pieces: dict[K, V], key: K, piece: V) -> V:
    if len(pieces) >= PIECES_MAX:
        pieces.clear()
    return pieces.setdefault(key, piece)


class _Lengths(dict[int, bytes]):
    """Lengths as protobuf writes them, in base 128 with the low digits first, each made once."""

    def __missing__(self, size: int) -> bytes:
        """Make the length of a piece of `size` bytes."""
        rest, digit = divmod(size, 128)
        self[size] = length = bytes([digit | 0x80]) + self[rest] if rest else bytes([digit])
        return length


_LENGTH = _Lengths()
