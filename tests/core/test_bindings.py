"""Account ids in requests are read in one way only, or not at all."""

import pytest
from support.builders import KEY, policy, request

from authz.core.bindings import claimed_accounts
from authz.core.check import RequestAttributes
from authz.core.errors import DenyReason
from authz.core.policy.path import parse

POLICY = policy()


def claims(attributes: RequestAttributes) -> tuple[tuple[str, ...], DenyReason | None]:
    target = parse(attributes.target)
    assert target is not None
    match = POLICY.router.match(attributes.method, target)
    assert match is not None
    assert match.route is not None
    return claimed_accounts(match.route, match.variables or {}, target, attributes)


def create(body: bytes, *, has_body: bool = True) -> RequestAttributes:
    return request("POST", "/v1/servers", KEY, body=body, has_body=has_body)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/servers", ()),
        ("/v1/servers?limit=1", ()),
        ("/v1/servers?account_id=a", ("a",)),
        ("/v1/servers?account%5Fid=a%62", ("ab",)),
        ("/v1/servers?accountId=a&limit=2", ("a",)),
        ("/v1/accounts/a%3Ab/wallet", ("a:b",)),
    ],
)
def test_an_account_is_found_where_the_route_says(target: str, expected: tuple[str, ...]) -> None:
    assert claims(request("GET", target, KEY)) == (expected, None)


def test_a_repeated_parameter_is_refused_in_either_spelling() -> None:
    for query in ("account_id=a&account_id=a", "account_id=a&accountId=a", "account_id=a;account_id=b"):
        assert claims(request("GET", f"/v1/servers?{query}", KEY)) == ((), DenyReason.ACCOUNT_REPEATED)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"accountId": "a", "name": "x"}', ("a",)),
        (b'{"account_id": "a"}', ("a",)),
        (b'{"ACCOUNTID": "a"}', ("a",)),
        (b'{"name": "x"}', ()),
        (b'{"accountId": null}', ()),
        (b'{"nested": {"accountId": "b"}, "accountId": "a"}', ("a",)),
    ],
)
def test_an_account_in_the_body_is_found_in_every_spelling_a_backend_may_accept(
    body: bytes, expected: tuple[str, ...]
) -> None:
    assert claims(create(body)) == (expected, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"accountId": "a", "accountId": "b"}', DenyReason.ACCOUNT_REPEATED),
        (b'{"accountId": "a", "account_id": "a"}', DenyReason.ACCOUNT_REPEATED),
        (b'{"accountId": 7}', DenyReason.BODY_UNREADABLE),
        (b'["accountId"]', DenyReason.BODY_UNREADABLE),
        (b"accountId=a", DenyReason.BODY_UNREADABLE),
        (b'{"accountId": "a"', DenyReason.BODY_UNREADABLE),
        (b"\xff\xfe{\x00}\x00", DenyReason.BODY_UNREADABLE),
        (b'{"x":' * 100_000, DenyReason.BODY_UNREADABLE),
        (b"", DenyReason.BODY_UNREADABLE),
    ],
)
def test_a_body_that_can_be_read_in_two_ways_is_refused(body: bytes, expected: DenyReason) -> None:
    assert claims(create(body)) == ((), expected)


def test_a_request_without_a_body_names_no_account() -> None:
    assert claims(create(b"", has_body=False)) == ((), None)


def test_a_required_account_must_be_named() -> None:
    assert claims(request("GET", "/v1/reports", KEY)) == ((), DenyReason.ACCOUNT_ABSENT)
    assert claims(request("GET", "/v1/reports?account_id=a", KEY)) == (("a",), None)


def test_a_route_without_bindings_reads_nothing() -> None:
    assert claims(request("GET", "/v1/whoami?account_id=a", KEY)) == ((), None)
