"""The core's decisions to Envoy's CheckResponse.

The texts and codes of a refusal are in `core/errors.py`. Their format for each kind of client is here.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from math import ceil
from typing import assert_never

from google.protobuf.struct_pb2 import Struct

from authz._pb.base_pb2 import HeaderValue, HeaderValueOption
from authz._pb.check_pb2 import CheckResponse, DeniedHttpResponse, OkHttpResponse
from authz._pb.http_status_pb2 import HttpStatus, StatusCode
from authz._pb.rpc_status_pb2 import Status
from authz.core.bodies.template import REQUEST_ID, RETRY_AFTER_S, shown_id, values_of
from authz.core.check import Allow, Bucket, BucketLimits, Decision, Deny, Principal, RequestAttributes
from authz.core.error_body import error_body, problem_body
from authz.core.errors import DENIALS, Denial, DenyReason, GrpcCode
from authz.core.limits import ACCOUNT_ITEM, KEY_ITEM, Limit, NamedLimit, full_after_s
from authz.core.policy.policy import Policy, RateHeaders
from authz.core.policy.route import ErrorFormat
from authz.core.streams import StreamUse

_UNANSWERED = frozenset({DenyReason.STORE_UNAVAILABLE, DenyReason.INTERNAL})
OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD

ACCOUNT_HEADER, KEY_HEADER, SCOPES_HEADER = "x-authz-account-id", "x-authz-key-id", "x-authz-scopes"
ENVIRONMENT_HEADER = "x-authz-environment"
_IDENTITY = (ACCOUNT_HEADER, KEY_HEADER, SCOPES_HEADER)
_RATELIMIT = "ratelimit"

Headers = list[tuple[str, str]]


def encode(policy: Policy, attributes: RequestAttributes, decision: Decision) -> CheckResponse:
    """Build the response to one request."""
    match decision:
        case Deny():
            return _refusal(policy, attributes, decision)
        case Allow():
            return _permission(policy, attributes, decision)
        case _:
            assert_never(decision)


def _permission(policy: Policy, attributes: RequestAttributes, allow: Allow) -> CheckResponse:
    identity = [] if allow.principal is None else identity_headers(allow.principal)
    if allow.principal is not None:
        identity += environment_headers(policy, attributes)
    is_identified = allow.principal is not None
    removed = [
        *removed_headers(policy, is_identified=is_identified),
        *further_removed(policy, attributes.reserved_headers),
    ]
    return CheckResponse(
        status=Status(code=0),
        ok_response=OkHttpResponse(
            headers=options(identity),
            headers_to_remove=removed,
            query_parameters_to_remove=removed_parameters(policy, attributes),
            response_headers_to_add=options(rate_headers(policy.rate_headers, allow.bucket, allow.streams)),
        ),
        dynamic_metadata=_metadata(allow),
    )


def _refusal(policy: Policy, attributes: RequestAttributes, deny: Deny) -> CheckResponse:
    headers, body = refusal_text(policy, attributes, deny)
    headers += wait_headers(deny.retry_after_s) + rate_headers(policy.rate_headers, deny.bucket, deny.streams)
    http = DeniedHttpResponse(status=http_status(deny), headers=options(headers), body=body)
    # For an error, unlike a denial, Envoy's own failure_mode_allow applies.
    if is_error(deny):
        return CheckResponse(status=status(deny), error_response=http, dynamic_metadata=_metadata(deny))
    return CheckResponse(status=status(deny), denied_response=http, dynamic_metadata=_metadata(deny))


def status(deny: Deny) -> Status:
    """Build the status with which Envoy does not admit the request."""
    denial = DENIALS[deny.reason]
    return Status(code=denial.code, message=denial.line.format(**_words(deny)))


def http_status(deny: Deny) -> HttpStatus:
    """Build the HTTP status for the client."""
    return HttpStatus(code=StatusCode.Name(DENIALS[deny.reason].http))


def is_error(deny: Deny) -> bool:
    """Return whether there is no decision: an error_response, not a denied_response."""
    return deny.reason in _UNANSWERED


def refusal_text(policy: Policy, attributes: RequestAttributes, deny: Deny) -> tuple[Headers, str]:
    """Build the headers and the body that depend only on the reason, the route and the kind of client."""
    denial = DENIALS[deny.reason]
    content_type, body = _body(policy, attributes, deny, denial)
    headers: Headers = [("content-type", content_type), ("cache-control", "no-store")]
    if attributes.is_grpc:
        # Envoy maps 429 to UNAVAILABLE, which clients retry at once.
        headers.append(("grpc-status", str(int(denial.code))))
    if deny.methods:
        headers.append(("allow", ", ".join(deny.methods)))
    if denial.code is GrpcCode.UNAUTHENTICATED:
        challenges = ", ".join(f'{scheme} realm="{policy.api}"' for scheme in policy.keys.schemes)
        headers.append(("www-authenticate", challenges))
    return headers, body


def is_own(policy: Policy, attributes: RequestAttributes, deny: Deny) -> bool:
    """Tell whether the body of a refusal is this request's own, so that it cannot be used for another one."""
    if policy.error_template is None or attributes.is_grpc or not policy.error_template.is_of_request:
        return False
    return (policy.errors if deny.route is None else deny.route.errors) is ErrorFormat.TEMPLATE


def wait_headers(retry_after_s: int | None) -> Headers:
    """Build Retry-After in seconds; nothing where a retry does not help."""
    return [] if retry_after_s is None else [("retry-after", str(retry_after_s))]


def _body(policy: Policy, attributes: RequestAttributes, deny: Deny, denial: Denial) -> tuple[str, str]:
    words = _words(deny)
    message = denial.message.format(**words)
    if attributes.is_grpc:
        return "text/plain", message  # Envoy copies the body to grpc-message
    errors = policy.errors if deny.route is None else deny.route.errors
    if errors is ErrorFormat.TEXT:
        return "text/plain; charset=utf-8", denial.line.format(**words) + "\n"
    if errors is ErrorFormat.PROBLEM:
        problem = problem_body(policy.domain, denial, message, _details(deny))
        return "application/problem+json", json.dumps(problem, separators=(",", ":"))
    if errors is ErrorFormat.TEMPLATE and policy.error_template is not None:
        written = replace(denial, line=denial.line.format(**words))
        values = values_of(policy.error_template, policy.domain, written, message, _details(deny))
        of_request = {REQUEST_ID: shown_id(attributes.logged_id), RETRY_AFTER_S: deny.retry_after_s}
        return policy.error_template.content_type, policy.error_template.render({**values, **of_request})
    line = denial.line.format(**_words(Deny(deny.reason)))
    body = error_body(policy.domain, int(denial.code), message, line, _details(deny))
    return "application/json", json.dumps(body, separators=(",", ":"))


def _words(deny: Deny) -> dict[str, str]:
    scope = "" if deny.route is None else deny.route.scope
    return {"scope": scope, "streams": "streams" if deny.streams is None else deny.streams.stream.title}


def _details(deny: Deny) -> dict[str, str]:
    if deny.reason is DenyReason.SCOPE_MISSING:
        return {"scope": _words(deny)["scope"]}
    return {} if deny.streams is None else {"stream": deny.streams.stream.name}


def identity_headers(principal: Principal) -> Headers:
    """Build the identity headers for the backend."""
    return [
        (ACCOUNT_HEADER, principal.account_id),
        (KEY_HEADER, principal.key_id),
        (SCOPES_HEADER, scopes_text(principal.scopes)),
    ]


def removed_headers(policy: Policy, *, is_identified: bool) -> tuple[str, ...]:
    """Return the headers that every allow removes: the key, and the identity headers that it does not set.

    Envoy removes after it sets, so a header that is set must not be in the list.
    """
    always = (*policy.keys.headers, *policy.overrides.removed_headers)
    return always if is_identified else (*always, *_identity(policy))


def removed_parameters(policy: Policy, attributes: RequestAttributes) -> list[str]:
    """Return the query parameters that an allow removes: that of the key, if the request has it."""
    return [policy.keys.query_parameter] if attributes.key_in_query else []


def further_removed(policy: Policy, reserved_headers: Iterable[str]) -> list[str]:
    """Return the client's reserved headers beside those that every allow sets or removes."""
    return [name for name in reserved_headers if name not in _identity(policy)]


def environment_headers(policy: Policy, attributes: RequestAttributes) -> Headers:
    """Build the header with the environment of a valid key; none where the policy's prefixes have no environment."""
    if not policy.keys.environments:
        return []
    return [(ENVIRONMENT_HEADER, policy.keys.environment(attributes.api_keys[0]) if attributes.api_keys else "")]


def _identity(policy: Policy) -> tuple[str, ...]:
    return (*_IDENTITY, ENVIRONMENT_HEADER) if policy.keys.environments else _IDENTITY


def scopes_text(scopes: Iterable[str]) -> str:
    """Build the value of the scopes header."""
    return " ".join(sorted(scopes))


def rate_headers(families: RateHeaders, bucket: Bucket | None, streams: StreamUse | None = None) -> Headers:
    """Build the rate limit headers of draft-ietf-httpapi-ratelimit-headers-10 and the older X-RateLimit family."""
    if bucket is None:
        return []
    quotas, left = ("", "") if streams is None else _stream_quotas(streams)
    return limit_headers(families, bucket.limits, quotas) + left_headers(families, bucket, left)


def limit_headers(families: RateHeaders, limits: BucketLimits, quotas: str = "") -> Headers:
    """Write the rate headers about limits: those of the key and, if it has a bucket, of the account; then `quotas`.

    If the check took from further buckets, every one of them is listed.

    The older family has room for one limit: that of the bucket that restricts the key the most.
    """
    headers: Headers = []
    if families.ietf:
        headers.append(("ratelimit-policy", ", ".join(_quota(it.name, it.limit) for it in _listed(limits)) + quotas))
    if families.legacy:
        headers.append(("x-ratelimit-limit", str(limits.limit.capacity)))
    return headers


def _listed(limits: BucketLimits) -> tuple[NamedLimit, ...]:
    if limits.quotas is not None:
        return limits.quotas.items
    key, account = (limits.other, limits.limit) if limits.is_account else (limits.limit, limits.other)
    return tuple(NamedLimit(name, it) for name, it in ((KEY_ITEM, key), (ACCOUNT_ITEM, account)) if it is not None)


def shown_name(limits: BucketLimits) -> str:
    """Return the name of the bucket that is shown."""
    if limits.quotas is not None:
        return limits.quotas.name
    return ACCOUNT_ITEM if limits.is_account else KEY_ITEM


def _quota(name: str, limit: Limit) -> str:
    return f'"{name}";q={limit.capacity};w={ceil(limit.capacity / limit.refill_per_s)}'


def left_headers(families: RateHeaders, bucket: Bucket, further: str = "") -> Headers:
    """Build the rate limit headers that change with every request; `further` is the rest of other quotas."""
    left, full_s = int(bucket.remaining), full_after_s(bucket.limit, bucket.remaining)
    forms = left_forms(families, shown_name(bucket.limits))
    headers = [(name, form.format(left=left, full_s=full_s)) for name, form in forms]
    return [(name, value + further if name == _RATELIMIT else value) for name, value in headers]


def left_forms(families: RateHeaders, name: str) -> Headers:
    """Return the names and forms of those headers, each family's with `{left}` once and then `{full_s}` once."""
    forms: Headers = []
    if families.ietf:
        forms.append((_RATELIMIT, f'"{name}";r={{left}};t={{full_s}}'))
    if families.legacy:
        forms.append(("x-ratelimit-remaining", "{left}"))
        forms.append(("x-ratelimit-reset", "{full_s}"))
    return forms


def _stream_quotas(use: StreamUse) -> tuple[str, str]:
    # No t: time alone does not release an open stream.
    stream, quotas, left = use.stream, "", ""
    caps = (("key", stream.per_key, use.of_key), ("account", stream.per_account, use.of_account))
    for whose, quota, count in caps:
        quotas += f', "{stream.name}-{whose}";q={quota};qu="concurrent-requests"'
        left += f', "{stream.name}-{whose}";r={max(0, quota - count)}'
    return quotas, left


def options(headers: Headers) -> list[HeaderValueOption]:
    """Build header options that overwrite existing headers."""
    return [
        HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=OVERWRITE) for name, value in headers
    ]


def lease_fields(use: StreamUse) -> dict[str, str]:
    """Build the metadata of a stream's lease for Envoy's access log, without the owner."""
    return {"lease_id": use.lease_id, "stream": use.stream.name}


def _metadata(decision: Decision) -> Struct:
    """Describe the decision for Envoy's access log."""
    metadata = Struct()
    fields = {"decision": "allow" if isinstance(decision, Allow) else "deny"}
    reason = decision.would_deny if isinstance(decision, Allow) else decision.reason
    if reason is not None:
        fields["reason"] = reason.value
    if decision.route is not None:
        fields["route"] = decision.route.template
    if decision.principal is not None:
        fields["account_id"] = decision.principal.account_id
        fields["key_id"] = decision.principal.key_id
    if isinstance(decision, Allow) and decision.streams is not None:
        fields |= lease_fields(decision.streams)
    metadata.update(fields)
    return metadata
