"""The decision: two pure functions, one before and one after the query to the key store.

`plan` makes every refusal that needs no store; `conclude` turns the store's reply into a decision. The order of their
lines is the order of the refusals: the first one wins. Waiting, clocks and logs are `service/check/checker.py`.
"""

from dataclasses import replace
from typing import Final, TypeAlias

from authz.core.bindings.accounts import Unreadable, named_accounts
from authz.core.bindings.query import names_a_method
from authz.core.bindings.spellings import Ambiguous
from authz.core.check import Allow, Decision, Deny, Lookup, Named, RequestAttributes, Take, TakeOutcome
from authz.core.errors import DenyReason
from authz.core.keys import digest
from authz.core.limits import retry_after_s
from authz.core.policy.overrides import REFUSALS
from authz.core.policy.path import parse
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, Route
from authz.core.policy.shapes import ANY_METHOD
from authz.core.reserved_headers import is_refused
from authz.core.streams import AcquireOutcome, Acquisition, StreamClass, StreamUse

Plan: TypeAlias = Lookup | Allow | Deny

# Module constants, because every check compares with them and an enum attribute costs six times a comparison.
_GRANTED: Final = TakeOutcome.GRANTED
_ANY: Final = Access.ANY
_BARRED: Final = Access.BARRED
_OPTIONAL: Final = Access.OPTIONAL

_KEY_REFUSALS = {
    TakeOutcome.UNKNOWN: DenyReason.KEY_UNKNOWN,
    TakeOutcome.REVOKED: DenyReason.KEY_REVOKED,
    TakeOutcome.EXPIRED: DenyReason.KEY_EXPIRED,
    TakeOutcome.DISABLED: DenyReason.KEY_DISABLED,
    TakeOutcome.SUSPENDED: DenyReason.ACCOUNT_SUSPENDED,
}

# The refusals of a request whose key is valid. Only then may a shadow route assert the caller's identity.
_VALID_KEY = frozenset(
    {
        DenyReason.RATE_LIMITED,
        DenyReason.BARRED,
        DenyReason.SCOPE_MISSING,
        DenyReason.ACCOUNT_MISMATCH,
        DenyReason.ACCOUNT_REPEATED,
        DenyReason.ACCOUNT_AMBIGUOUS,
        DenyReason.ACCOUNT_ABSENT,
        DenyReason.BODY_UNREADABLE,
        DenyReason.BODY_TOO_LARGE,
        DenyReason.BODY_NOT_JSON,
        DenyReason.STREAMS_OF_KEY,
        DenyReason.STREAMS_OF_ACCOUNT,
    }
)

_STREAM_REFUSALS = {
    AcquireOutcome.KEY_FULL: DenyReason.STREAMS_OF_KEY,
    AcquireOutcome.ACCOUNT_FULL: DenyReason.STREAMS_OF_ACCOUNT,
    AcquireOutcome.STOPPED: DenyReason.KEY_REVOKED,
    AcquireOutcome.ENDED: DenyReason.INTERNAL,
}


def plan(policy: Policy, attributes: RequestAttributes) -> Plan:
    """Decide what needs no store; otherwise return the lookup to make."""
    target = parse(attributes.target)
    if target is None:
        return Deny(DenyReason.PATH_NOT_CANONICAL)
    if attributes.method not in policy.methods:
        return Deny(DenyReason.METHOD_REFUSED)
    overrides = attributes.overrides
    if (overrides is not None or attributes.reserved_headers) and (reason := _header_refusal(policy, attributes)):
        return Deny(reason)
    match = policy.router.match(attributes.method, target)
    # A policy without hosts does nothing more here.
    if match is None and (match := policy.router.match_at(attributes.host, attributes.method, target)) is None:
        return Deny(DenyReason.PATH_NOT_CANONICAL)
    route = match.route
    if route is not None and not route.needs_key and (planned := _without_key(route, attributes)) is not None:
        return _refused_if_overridden(policy, planned, target.query) if target.query else planned
    api_keys = attributes.api_keys
    if len(api_keys) != 1:
        return Deny(DenyReason.KEY_REPEATED if api_keys else DenyReason.KEY_MISSING, route)
    presented = api_keys[0]
    if not policy.keys.format.is_well_formed(presented) and not policy.keys.is_foreign(presented):
        return Deny(DenyReason.KEY_MALFORMED, route)
    if route is None:
        return Lookup(digest(presented), 1, None, match.methods, refusal=_unmatched(match.methods, attributes))
    query = target.query if policy.overrides.in_query else ""
    if not route.accounts:
        return Lookup(digest(presented), route.cost, route, (), None, query)
    return Lookup(digest(presented), route.cost, route, (), Named(attributes, target, match.template), query)


def _unmatched(methods: tuple[str, ...], attributes: RequestAttributes) -> DenyReason:
    if methods:
        return DenyReason.METHOD_UNKNOWN
    return DenyReason.GRPC_METHOD_UNKNOWN if attributes.is_grpc else DenyReason.ROUTE_UNKNOWN


def _header_refusal(policy: Policy, attributes: RequestAttributes) -> DenyReason | None:
    overrides = attributes.overrides
    if overrides is not None and policy.overrides.refuses(overrides):
        return REFUSALS[overrides]
    return DenyReason.HEADER_ALIAS if is_refused(attributes.reserved_headers) else None


def _without_key(route: Route, attributes: RequestAttributes) -> Allow | Deny | None:
    """Decide on a row that needs no key; None where the key of the request must be valid."""
    if route.access is _OPTIONAL and attributes.api_keys:
        return None
    if route.access is Access.SESSION and attributes.api_keys:
        return Deny(DenyReason.KEY_ON_SESSION_ROUTE, route)
    return Allow(route)


def _refused_if_overridden(policy: Policy, planned: Allow | Deny, query: str) -> Allow | Deny:
    """Refuse a query that names another method, or is too costly to tell, except where any method is admitted."""
    route = planned.route
    if route is None or route.method == ANY_METHOD or not policy.overrides.in_query:
        return planned
    try:
        is_overridden = names_a_method(query)
    except Ambiguous:
        is_overridden = True
    return Deny(DenyReason.METHOD_OVERRIDDEN, route) if is_overridden else planned


def conclude(lookup: Lookup, take: Take) -> Decision:
    """Turn the store's reply into the decision."""
    route, record, bucket = lookup.route, take.record, take.bucket
    principal = record.principal
    if take.outcome is not _GRANTED or bucket is None:
        return _not_granted(lookup, take)
    if route is None:
        return Deny(lookup.refusal, None, principal, bucket, methods=lookup.methods)
    if route.access is _BARRED:
        return Deny(DenyReason.BARRED, route, principal, bucket)
    if route.access is not _ANY and route.scope not in record.scopes and not _suffices(route, record.scopes):
        return Deny(DenyReason.SCOPE_MISSING, route, principal, bucket)
    if lookup.named is not None or lookup.query:
        try:
            reason, detail = _fault(route, lookup, record.account_id), ""
        except Unreadable as error:
            reason, detail = error.reason, str(error)
        if reason is not None:
            return Deny(reason, route, principal, bucket, detail=detail)
    return Allow(route, principal, bucket)


def _suffices(route: Route, scopes: frozenset[str]) -> bool:
    """Tell whether scopes suffice for a row that needs not exactly one."""
    return route.access is _OPTIONAL or any(scopes.issuperset(needed) for needed in route.scopes)


def _fault(route: Route, lookup: Lookup, account_id: str) -> DenyReason | None:
    """Read what the request names; return its fault or None. Raises `Unreadable`."""
    if lookup.query:
        try:
            if names_a_method(lookup.query):
                return DenyReason.METHOD_OVERRIDDEN
        except Ambiguous as error:
            raise Unreadable(DenyReason.ACCOUNT_AMBIGUOUS, str(error)) from None
    if lookup.named is not None and any(name != account_id for name in named_accounts(route, lookup.named)):
        return DenyReason.ACCOUNT_MISMATCH
    return None


def _not_granted(lookup: Lookup, take: Take) -> Deny:
    principal, bucket = take.record.principal, take.bucket
    if take.outcome in _KEY_REFUSALS:
        return Deny(_KEY_REFUSALS[take.outcome], lookup.route, principal if principal.key_id else None)
    wait_s = None if bucket is None else retry_after_s(bucket.limit, bucket.remaining, lookup.cost)
    return Deny(DenyReason.RATE_LIMITED, lookup.route, principal, bucket, retry_after_s=wait_s)


def admit(allow: Allow, stream: StreamClass, lease_id: str, acquired: Acquisition) -> Decision:
    """Turn the lease store's reply into the decision on a stream that is otherwise allowed."""
    use = StreamUse(stream, acquired.of_key, acquired.of_account)
    route, principal, bucket = allow.route, allow.principal, allow.bucket
    if acquired.outcome is not AcquireOutcome.GRANTED:
        return Deny(_STREAM_REFUSALS[acquired.outcome], route, principal, bucket, streams=use)
    return Allow(route, principal, bucket, streams=replace(use, lease_id=lease_id))


def enforce(decision: Decision) -> Decision:
    """Allow, with a mark, what a shadow route would deny; return every other decision unchanged.

    Such an allow asserts no identity unless the key proved valid: the backend must not act for a revoked key.
    """
    if isinstance(decision, Allow) or decision.route is None or not decision.route.shadow:
        return decision
    principal = decision.principal if decision.reason in _VALID_KEY else None
    return Allow(decision.route, principal, decision.bucket, would_deny=decision.reason)
