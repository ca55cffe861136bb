"""What a request needs is found by deciding on it, not by reading its row."""

import pytest
from support.builders import policy

from authz.core.check import Allow, Deny
from authz.core.errors import DenyReason
from authz.core.policy.simulation import Caller, decide, naming_account, need

POLICY = policy()


@pytest.mark.parametrize(
    ("method", "target", "needed"),
    [
        ("GET", "/v1/whoami", "any"),
        ("GET", "/v1/servers/s1", "servers:read"),
        ("POST", "/v1/servers/s1:start", "servers:write"),
        ("GET", "/v1/accounts/a1/wallet", "billing:read"),
        ("GET", "/v1/servers?account_id=a1", "servers:read"),
        ("GET", "/v1/servers?account_id=a1&account_id=a1", "account_repeated"),
        ("GET", "/v1/reports?account_id=a1", "any"),
        ("GET", "/v1/reports", "account_absent"),
        ("GET", "/v1/shadowed", "public"),
        ("POST", "/v1/public/login", "public"),
        ("DELETE", "/dashboard/keys", "session"),
        ("GET", "/v1/admin/users", "barred"),
        ("GET", "/v1/nowhere", "route_unknown"),
        ("PUT", "/v1/servers", "method_unknown"),
        ("GET", "/v1//servers", "path_not_canonical"),
        ("TRACE", "/v1/servers", "method_refused"),
    ],
)
def test_what_a_request_needs(method: str, target: str, needed: str) -> None:
    assert need(POLICY, method, target) == needed


def test_a_caller_owns_what_it_names_unless_said_otherwise() -> None:
    target = "/v1/accounts/a1/wallet"
    scopes = frozenset({"billing:read"})
    assert isinstance(decide(POLICY, "GET", target, Caller(scopes)), Allow)
    assert isinstance(decide(POLICY, "GET", target, Caller(scopes, "a1")), Allow)
    foreign = decide(POLICY, "GET", target, Caller(scopes, "a2"))
    assert isinstance(foreign, Deny)
    assert foreign.reason is DenyReason.ACCOUNT_MISMATCH


def test_a_request_names_an_account_where_its_row_asks_for_one() -> None:
    rows = {route.template: route for route in POLICY.routes if route.method == "GET"}
    assert naming_account("/v1/reports", rows["/v1/reports"]) == ("/v1/reports?account_id=acct_own", b"")
    assert naming_account("/v1/servers", rows["/v1/servers"]) == ("/v1/servers", b"")
    assert naming_account("/v1/nowhere", None) == ("/v1/nowhere", b"")
