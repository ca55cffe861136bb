"""What lint says of rows that are sound and bind the account in one of several locations."""

import pytest

from authz.core.policy.route import Access, AccountBinding, BindingLocation, Route
from authz.core.policy.rules import warning

QUERY, BODY = AccountBinding(BindingLocation.QUERY, "account_id"), AccountBinding(BindingLocation.BODY, "account_id")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_row_that_binds_one_of_query_and_body_is_suspicious(method: str) -> None:
    for bound, both in (((QUERY,), False), ((BODY,), False), ((QUERY, BODY), True), ((), True)):
        route = Route(method, "/v1/servers", Access.ANY, accounts=bound)
        assert (warning(route) is None) is both


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_row_whose_requests_have_no_body_is_not(method: str) -> None:
    """A request with a body is refused there (`core/bindings/accounts.py`)."""
    assert warning(Route(method, "/v1/servers", Access.ANY, accounts=(QUERY,))) is None
