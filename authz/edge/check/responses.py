"""CheckResponses as bytes, joined from cached fragments.

A serialised message is the concatenation of its fields in the order of their numbers. So protobuf serialises each
fragment once, and the fragments are joined. The content is in `codec.py`. A test compares each response with protobuf.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from authz._pb.check_pb2 import CheckResponse, DeniedHttpResponse, OkHttpResponse
from authz.core.check import Allow, Bucket, BucketLimits, Decision, Deny, Principal, RequestAttributes
from authz.core.limits import full_after_s
from authz.core.policy.policy import Policy, RateHeaders
from authz.core.policy.route import Route
from authz.core.streams import StreamUse
from authz.core.value import Value, force_setattr
from authz.edge.check import codec
from authz.edge.check.fragments import ACTION, HEADERS, LENGTH, TO_ADD, EntryFragment, HeaderFragment

FRAGMENTS_MAX = 16_384

_DENIED, _OK, _METADATA, _ERROR = b"\x12", b"\x1a", b"\x22", b"\x2a"  # tags of fields 2 to 5, length-delimited
_STATUS_AND_OK = CheckResponse(status={}).SerializeToString() + _OK
_ACCOUNT_HEADER, _KEY_HEADER = HeaderFragment(codec.ACCOUNT_HEADER), HeaderFragment(codec.KEY_HEADER)
_SCOPES_HEADER = HeaderFragment(codec.SCOPES_HEADER)
_NAMES = ("account_id", "decision", "key_id", "lease_id", "reason", "route", "stream")
_ENTRIES = {name: EntryFragment(name) for name in _NAMES}
_ALLOW, _DENY = _ENTRIES["decision"]("allow"), _ENTRIES["decision"]("deny")

K = TypeVar("K")
V = TypeVar("V")


class _Caller(Value):
    """The fragments of one caller: its headers, the headers of its set of scopes, and its metadata.

    The metadata contains the decision, `allowed` or `denied`, because it stands in the middle. All fragments belong to
    one policy, whose identity is `policy`. `ok` is all that precedes the tokens left in the usual response, with the
    headers of the latest `limits`, which rarely change.
    """

    policy: object
    headers: bytes
    scopes: bytes
    allowed: bytes
    denied: bytes
    limits: BucketLimits | None = None
    ok: bytes = b""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The fragments of a refusal for one reason and kind of request, without those of the caller and the bucket.

    With `is_own`, each request has a body of its own.
    """

    status: bytes
    http: bytes
    body: bytes
    reason: bytes
    is_error: bool
    is_own: bool


class ResponseWriter:
    """Serialises the responses of one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._identity = policy.identity
        self._removed = _removed(codec.removed_headers(policy, is_identified=True))
        unset = _removed(codec.removed_headers(policy, is_identified=False))
        self._nobody = _Caller(policy.identity, b"", unset, _ALLOW, _DENY)
        self._scopes: dict[frozenset[str], bytes] = {}
        self._rates = _Rates(policy.rate_headers, TO_ADD)
        self._denied_rates = _Rates(policy.rate_headers, HEADERS)
        self._waits: dict[int, bytes] = {}
        self._refusals: dict[tuple[object, ...], _Refusal] = {}

    def write(self, attributes: RequestAttributes, decision: Decision) -> bytes:
        """Serialise the response to one request, byte for byte as `codec.encode` and protobuf do."""
        if not isinstance(decision, Allow):
            return self._denial(attributes, decision)
        principal, bucket, route = decision.principal, decision.bucket, decision.route
        caller: Any = self._nobody if principal is None else principal.fragments
        if caller is None or caller.policy is not self._identity:
            caller = self._caller(principal, attributes)
        if bucket is None or decision.streams is not None or attributes.reserved_headers:
            ok = caller.headers + caller.scopes
            if attributes.reserved_headers:
                ok += _removed(codec.further_removed(self.policy, attributes.reserved_headers))
            if decision.streams is not None:
                return self._stream(decision, caller, ok)
            if bucket is not None:
                ok += self._rates.of(bucket)
        else:
            if caller.limits is not bucket.limits:
                force_setattr(caller, "limits", bucket.limits)
                force_setattr(caller, "ok", caller.headers + caller.scopes + self._rates.limits(bucket.limits))
            ok = self._rates.with_left(caller.ok, bucket)
        metadata = caller.allowed
        if decision.would_deny is not None:
            metadata += _ENTRIES["reason"](decision.would_deny.value)
        metadata += route.fragment or _route_fragment(route)
        return b"".join((_STATUS_AND_OK, LENGTH[len(ok)], ok, _METADATA, LENGTH[len(metadata)], metadata))

    def _stream(self, allow: Allow, caller: _Caller, ok: bytes) -> bytes:
        """Serialise the response to a request that opens a stream; `ok` begins its OkHttpResponse."""
        ok += self._rates.with_streams(allow.bucket, allow.streams)
        entries = {} if allow.streams is None else codec.lease_fields(allow.streams)
        entries |= {} if allow.would_deny is None else {"reason": allow.would_deny.value}
        entries["route"] = allow.route.template
        described = b"".join(_ENTRIES[name](entries[name]) for name in sorted(entries))
        metadata = caller.allowed + described
        return b"".join((_STATUS_AND_OK, LENGTH[len(ok)], ok, _METADATA, LENGTH[len(metadata)], metadata))

    def _denial(self, attributes: RequestAttributes, deny: Deny) -> bytes:
        row = None if deny.route is None else (deny.route.method, deny.route.template, deny.route.hosts)
        key = (attributes.is_grpc, deny.reason, row, deny.methods, deny.streams and deny.streams.stream)
        refusal = self._refusals.get(key) or _cached(self._refusals, key, self._refusal(attributes, deny))
        caller = self._caller(deny.principal, attributes)
        http, wait_s, bucket = refusal.http, deny.retry_after_s, deny.bucket
        if wait_s is not None:
            http += self._waits.get(wait_s) or _cached(self._waits, wait_s, _wait(wait_s))
        if bucket is not None and deny.streams is not None:
            http += self._denied_rates.with_streams(bucket, deny.streams)
        elif bucket is not None:
            http += self._denied_rates.of(bucket)
        http += self._own_body(attributes, deny) if refusal.is_own else refusal.body
        metadata = caller.denied + refusal.reason
        described = _METADATA + LENGTH[len(metadata)] + metadata
        if refusal.is_error:
            return b"".join((refusal.status, described, _ERROR, LENGTH[len(http)], http))
        return b"".join((refusal.status, _DENIED, LENGTH[len(http)], http, described))

    def _caller(self, principal: Principal | None, attributes: RequestAttributes) -> _Caller:
        if principal is None:
            return self._nobody
        found = principal.fragments
        if isinstance(found, _Caller) and found.policy is self._identity:
            return found
        scopes = self._scopes.get(principal.scopes)
        if scopes is None:
            scopes = _SCOPES_HEADER(codec.scopes_text(principal.scopes)) + self._removed
            _cached(self._scopes, principal.scopes, scopes)
        account, key = _ENTRIES["account_id"](principal.account_id), _ENTRIES["key_id"](principal.key_id)
        # A principal is that of one key, which has one environment.
        environment = codec.environment_headers(self.policy, attributes)
        caller = _Caller(
            self._identity,
            _ACCOUNT_HEADER(principal.account_id) + _KEY_HEADER(principal.key_id) + _added(environment),
            scopes,
            account + _ALLOW + key,
            account + _DENY + key,
        )
        force_setattr(principal, "fragments", caller)
        return caller

    def _refusal(self, attributes: RequestAttributes, deny: Deny) -> _Refusal:
        headers, body = codec.refusal_text(self.policy, attributes, deny)
        reason = _ENTRIES["reason"](deny.reason.value)
        return _Refusal(
            status=CheckResponse(status=codec.status(deny)).SerializeToString(),
            http=DeniedHttpResponse(status=codec.http_status(deny), headers=codec.options(headers)).SerializeToString(),
            body=DeniedHttpResponse(body=body).SerializeToString(),
            reason=reason if deny.route is None else reason + _ENTRIES["route"](deny.route.template),
            is_error=codec.is_error(deny),
            is_own=codec.is_own(self.policy, attributes, deny),
        )

    def _own_body(self, attributes: RequestAttributes, deny: Deny) -> bytes:
        _, body = codec.refusal_text(self.policy, attributes, deny)
        return DeniedHttpResponse(body=body).SerializeToString()


class QueryKeyWriter(ResponseWriter):
    """Serialises the responses of a policy that accepts keys in the query; an own class, so that others do no more."""

    def write(self, attributes: RequestAttributes, decision: Decision) -> bytes:
        """Serialise the response to one request, with the same content as `codec.encode` and protobuf."""
        response = super().write(attributes, decision)
        if not isinstance(decision, Allow) or not attributes.key_in_query:
            return response
        removed = OkHttpResponse(query_parameters_to_remove=codec.removed_parameters(self.policy, attributes))
        # Readers merge messages whose bytes follow one another.
        return response + CheckResponse(ok_response=removed).SerializeToString()


def writer_of(policy: Policy) -> ResponseWriter:
    """Return the writer of a policy's responses."""
    return QueryKeyWriter(policy) if policy.keys.query_parameter else ResponseWriter(policy)


class _Rates:
    """Serialises the rate limit headers, in the field with the tag `field`.

    The headers of a limit are cached. The remaining tokens of a large bucket rarely repeat, but their number of digits
    does: the cache holds a format with placeholders of that size.
    """

    def __init__(self, families: RateHeaders, field: bytes) -> None:
        self._families = families
        self._field = field
        self._count = families.ietf + families.legacy
        self._limits: dict[tuple[object, ...], bytes] = {}
        self._forms: dict[tuple[int, int, bool | str], bytes] = {}
        self._headers: dict[str, HeaderFragment] = {}

    def of(self, bucket: Bucket) -> bytes:
        """Serialise the headers of a bucket."""
        return self.with_left(self.limits(bucket.limits), bucket)

    def limits(self, shown: BucketLimits) -> bytes:
        """Serialise the headers of limits."""
        if not self._count:
            return b""
        limit, other, quotas = shown.limit, shown.other, shown.quotas
        # Of plain numbers, because a limit is slow to hash.
        key: tuple[object, ...] = (limit.capacity, limit.refill_per_s)
        if other is not None:
            key += (other.capacity, other.refill_per_s, shown.is_account)
        if quotas is not None:
            key += tuple((it.name, it.limit.capacity, it.limit.refill_per_s) for it in quotas.items)
        found = self._limits.get(key)
        return found or _cached(self._limits, key, self._write(codec.limit_headers(self._families, shown)))

    def with_left(self, before: bytes, bucket: Bucket) -> bytes:
        """Append the headers of the tokens left to what is `before` them."""
        if not self._count:
            return before
        remaining, shown = bucket.remaining, bucket.limits
        left, full_s = b"%d" % remaining, b"%d" % full_after_s(shown.limit, remaining)
        quotas = shown.quotas
        key = (len(left), len(full_s), shown.is_account if quotas is None else quotas.name)
        form = self._forms.get(key) or self._form(bucket, key)
        return before + form % ((left, full_s) * self._count)

    def with_streams(self, bucket: Bucket | None, use: StreamUse | None) -> bytes:
        """Serialise the headers of a bucket and of the caps on open streams."""
        return self._write(codec.rate_headers(self._families, bucket, use))

    def _write(self, headers: codec.Headers) -> bytes:
        return b"".join(self._header(name)(value) for name, value in headers)

    def _header(self, name: str) -> HeaderFragment:
        return self._headers.get(name) or self._headers.setdefault(name, HeaderFragment(name, self._field))

    def _form(self, bucket: Bucket, key: tuple[int, int, bool | str]) -> bytes:
        left, full_s, _ = key
        form = b""
        for name, text in codec.left_forms(self._families, codec.shown_name(bucket.limits)):
            size = len(text.format(left="0" * left, full_s="0" * full_s))
            head = self._header(name).head(size).replace(b"%", b"%%")
            form += head + text.format(left="%b", full_s="%b").encode() + ACTION
        return _cached(self._forms, key, form)


def _route_fragment(route: Route) -> bytes:
    object.__setattr__(route, "fragment", _ENTRIES["route"](route.template))
    return route.fragment


def _removed(names: Iterable[str]) -> bytes:
    return OkHttpResponse(headers_to_remove=names).SerializeToString()


def _added(headers: codec.Headers) -> bytes:
    return OkHttpResponse(headers=codec.options(headers)).SerializeToString()


def _wait(seconds: int) -> bytes:
    return DeniedHttpResponse(headers=codec.options(codec.wait_headers(seconds))).SerializeToString()


def _cached(cache: dict[K, V], key: K, fragment: V) -> V:
    if len(cache) >= FRAGMENTS_MAX:
        cache.clear()
    return cache.setdefault(key, fragment)
