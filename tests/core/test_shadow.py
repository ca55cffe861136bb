"""Shadow rows: what they allow, what they would deny, and whose identity they assert."""

import pytest
from support.builders import KEY, policy, record, request, take

from authz.core.check import Allow, Deny, Lookup, RequestAttributes, Take, TakeOutcome
from authz.core.decision import conclude, enforce, plan
from authz.core.errors import DenyReason

POLICY = policy()


def lookup(attributes: RequestAttributes) -> Lookup:
    planned = plan(POLICY, attributes)
    assert isinstance(planned, Lookup)
    return planned


def test_a_shadow_route_lets_pass_and_says_what_it_would_have_done() -> None:
    planned = plan(POLICY, request("GET", "/v1/shadowed"))
    decision = enforce(planned) if not isinstance(planned, Lookup) else None
    assert isinstance(decision, Allow)
    assert decision.would_deny is DenyReason.KEY_MISSING
    assert decision.principal is None


@pytest.mark.parametrize("reason", DenyReason)
def test_a_shadow_route_asserts_an_identity_only_if_the_key_is_valid(reason: DenyReason) -> None:
    (route,) = (route for route in POLICY.routes if route.shadow)
    decision = enforce(Deny(reason, route, record("servers:read").principal))
    assert isinstance(decision, Allow)
    is_valid = reason.value.startswith(("account_", "streams_", "scope_", "body_", "rate_", "barred"))
    is_valid = is_valid and reason is not DenyReason.ACCOUNT_SUSPENDED
    assert (decision.principal is not None) is is_valid
    assert decision.would_deny is reason


@pytest.mark.parametrize("outcome", sorted(set(TakeOutcome) - {TakeOutcome.GRANTED, TakeOutcome.LIMITED}))
def test_a_shadow_route_asserts_no_identity_of_a_key_in_any_other_state(outcome: TakeOutcome) -> None:
    decision = enforce(conclude(lookup(request("GET", "/v1/shadowed", KEY)), Take(outcome, record("servers:read"))))
    assert isinstance(decision, Allow)
    assert decision.principal is None


def test_only_shadow_routes_let_pass() -> None:
    deny = Deny(DenyReason.ROUTE_UNKNOWN)
    assert enforce(deny) is deny
    planned = plan(POLICY, request("GET", "/v1/whoami"))
    assert isinstance(planned, Deny)
    assert enforce(planned) is planned
    allow = conclude(lookup(request("GET", "/v1/whoami", KEY)), take())
    assert not isinstance(allow, Deny)
    assert enforce(allow) is allow
