"""Requests that name another method or path, HEAD, gRPC methods, and what is read only after the key proved valid."""

from dataclasses import replace

import pytest
from support.builders import KEY, policy, request, take

from authz.core.check import Allow, Deny, Lookup, RequestAttributes, Take, TakeOutcome
from authz.core.decision import conclude, plan
from authz.core.errors import DENIALS, DenyReason, GrpcCode
from authz.core.policy.overrides import METHOD_HEADERS, PATH_HEADERS, Override, Overrides, override_of
from authz.core.policy.route import Access, Route

POLICY = policy()


def lookup(attributes: RequestAttributes) -> Lookup:
    planned = plan(POLICY, attributes)
    assert isinstance(planned, Lookup)
    return planned


def reason(attributes: RequestAttributes, answer: Take | None = None) -> DenyReason:
    decision = conclude(lookup(attributes), answer or take())
    assert isinstance(decision, Deny)
    return decision.reason


def test_an_unknown_grpc_method_is_unimplemented_for_a_valid_key() -> None:
    call = request("POST", "/shop.v1.Orders/Nothing", KEY, is_grpc=True)
    assert reason(call) is DenyReason.GRPC_METHOD_UNKNOWN
    assert DENIALS[DenyReason.GRPC_METHOD_UNKNOWN].code is GrpcCode.UNIMPLEMENTED
    assert reason(request("POST", "/shop.v1.Orders/Nothing", KEY)) is DenyReason.ROUTE_UNKNOWN
    unknown = take(outcome=TakeOutcome.UNKNOWN)
    assert reason(call, unknown) is DenyReason.KEY_UNKNOWN


def test_head_is_decided_like_get() -> None:
    decision = conclude(lookup(request("HEAD", "/v1/servers/s1", KEY)), take())
    assert isinstance(decision, Allow)
    assert decision.route.method == "GET"
    assert reason(request("HEAD", "/v1/servers?account_id=acct_2", KEY)) is DenyReason.ACCOUNT_MISMATCH


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (Override.METHOD, DenyReason.METHOD_OVERRIDDEN),
        (Override.PATH, DenyReason.PATH_OVERRIDDEN),
        (Override.ALIAS, DenyReason.METHOD_OVERRIDDEN),
    ],
)
def test_headers_that_name_another_request_are_refused_or_removed(override: Override, expected: DenyReason) -> None:
    for attributes in (request("POST", "/v1/public/login", overrides=override), request(overrides=override)):
        planned = plan(POLICY, attributes)
        assert isinstance(planned, Deny)
        assert planned.reason is expected
    stripping = replace(POLICY, overrides=Overrides(strip=True))
    planned = plan(stripping, request("POST", "/v1/public/login", overrides=override))
    assert isinstance(planned, Deny if override is Override.ALIAS else Allow)
    assert set(stripping.overrides.removed_headers) == METHOD_HEADERS | PATH_HEADERS
    assert POLICY.overrides.removed_headers == ()


@pytest.mark.parametrize("name", ["x_original_url", "x_http_method_override", "x-rewrite_url"])
def test_a_header_alias_with_underscores_is_an_override(name: str) -> None:
    assert override_of(name) is Override.ALIAS
    assert override_of("x_request_id") is None


def test_a_policy_may_ignore_methods_in_queries() -> None:
    attributes = request("GET", "/v1/whoami?_method=DELETE", KEY)
    assert reason(attributes) is DenyReason.METHOD_OVERRIDDEN
    planned = plan(replace(POLICY, overrides=Overrides(in_query=False)), attributes)
    assert isinstance(planned, Lookup)
    assert isinstance(conclude(planned, take()), Allow)


@pytest.mark.parametrize("access", [Access.PUBLIC, Access.SESSION, Access.OPTIONAL])
def test_a_query_names_no_other_method_where_no_key_is_needed(access: Access) -> None:
    """The backend would otherwise serve, to anyone, a method that the table does not have."""
    table = policy(Route("POST", "/v1/things", access), Route("*", "/pages/**", Access.SESSION))
    for query in ("_method=DELETE", "a=1&%5Fmethod=PUT", "X-HTTP-Method-Override=PUT", "%" * 20_000):
        denied = plan(table, request("POST", f"/v1/things?{query}"))
        assert isinstance(denied, Deny)
        assert denied.reason is DenyReason.METHOD_OVERRIDDEN
        assert isinstance(plan(table, request("POST", f"/pages/a?{query}")), Allow)
        ignoring = replace(table, overrides=Overrides(in_query=False))
        assert isinstance(plan(ignoring, request("POST", f"/v1/things?{query}")), Allow)
    for query in ("", "?", "?payment_method=card", "?a=%5Fmethodical"):
        assert isinstance(plan(table, request("POST", f"/v1/things{query}")), Allow)


def test_nothing_that_a_request_names_is_read_before_its_key_proved_valid() -> None:
    attributes = request("GET", "/v1/servers?account_id=a&account_id=b&_method=PUT", KEY)
    for outcome in (TakeOutcome.UNKNOWN, TakeOutcome.REVOKED):
        assert reason(attributes, take(outcome=outcome)).startswith("key_")
    assert reason(attributes, take("billing:read")) is DenyReason.SCOPE_MISSING
