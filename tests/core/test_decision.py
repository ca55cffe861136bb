"""The order of refusals, and that nothing but the happy path allows."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import KEY, LIMIT, LOGS, policy, record, request, take

from authz.core.check import Allow, Deny, KeyRecord, KeyState, Lookup, RequestAttributes, Take, TakeOutcome
from authz.core.decision import admit, conclude, plan
from authz.core.errors import DENIALS, DenyReason, GrpcCode
from authz.core.keys import digest
from authz.core.policy.overrides import Override
from authz.core.streams import AcquireOutcome, Acquisition, StreamUse

POLICY = policy()


def lookup(attributes: RequestAttributes) -> Lookup:
    planned = plan(POLICY, attributes)
    assert isinstance(planned, Lookup)
    return planned


def reason(attributes: RequestAttributes, answer: Take | None = None) -> DenyReason:
    planned = plan(POLICY, attributes)
    decision = conclude(planned, answer or take()) if isinstance(planned, Lookup) else planned
    assert isinstance(decision, Deny)
    return decision.reason


def test_every_reason_has_a_public_face_that_is_no_success() -> None:
    assert set(DENIALS) == set(DenyReason)
    for denial in DENIALS.values():
        assert denial.code in GrpcCode
        assert denial.http >= 400
        assert denial.message
        assert "\n" not in denial.line


def test_every_bad_key_looks_the_same_from_outside() -> None:
    faces = {DENIALS[reason] for reason in DenyReason if reason.startswith("key_") and "session" not in reason}
    faces.add(DENIALS[DenyReason.ACCOUNT_SUSPENDED])
    assert len(faces) == 1


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (request(target="/v1//servers"), DenyReason.PATH_NOT_CANONICAL),
        (request("POST", "/v1/servers/x%3Astart", KEY), DenyReason.PATH_NOT_CANONICAL),
        (request("TRACE", "/v1/whoami", KEY), DenyReason.METHOD_REFUSED),
        (request("POST", "/v1/public/login", overrides=Override.METHOD), DenyReason.METHOD_OVERRIDDEN),
        (request("POST", "/v1/public/login", reserved_headers=("x_authz_scopes",)), DenyReason.HEADER_ALIAS),
        (request("GET", "/v1/shadowed", KEY, reserved_headers=("x_api_key",)), DenyReason.HEADER_ALIAS),
        (request("GET", "/dashboard/keys", KEY), DenyReason.KEY_ON_SESSION_ROUTE),
        (request("GET", "/dashboard/keys", ""), DenyReason.KEY_ON_SESSION_ROUTE),
        (request(), DenyReason.KEY_MISSING),
        (request("GET", "/v1/nowhere"), DenyReason.KEY_MISSING),
        (request("GET", "/v1/admin/x"), DenyReason.KEY_MISSING),
        (request("GET", "/v1/whoami", KEY, KEY), DenyReason.KEY_REPEATED),
        (request("GET", "/v1/whoami", ""), DenyReason.KEY_MALFORMED),
        (request("GET", "/v1/whoami", f"{KEY},{KEY}"), DenyReason.KEY_MALFORMED),
    ],
)
def test_refusals_that_need_no_store(attributes: RequestAttributes, expected: DenyReason) -> None:
    planned = plan(POLICY, attributes)
    assert isinstance(planned, Deny)
    assert planned.reason is expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (request("GET", "/v1/admin/x", KEY), DenyReason.BARRED),
        (request("GET", "/v1/nowhere", KEY), DenyReason.ROUTE_UNKNOWN),
        (request("DELETE", "/v1/whoami", KEY), DenyReason.METHOD_UNKNOWN),
        (request("POST", "/v1/servers/s1:start", KEY), DenyReason.SCOPE_MISSING),
        (request("GET", "/v1/servers?account_id=acct_2", KEY), DenyReason.ACCOUNT_MISMATCH),
        (request("GET", "/v1/servers?account_id=acct_1&account_id=acct_1", KEY), DenyReason.ACCOUNT_REPEATED),
        (request("GET", "/v1/servers?account_id=acct_1&accountId=acct_2", KEY), DenyReason.ACCOUNT_REPEATED),
        (request("GET", "/v1/reports", KEY), DenyReason.ACCOUNT_ABSENT),
    ],
)
def test_refusals_of_a_valid_key(attributes: RequestAttributes, expected: DenyReason) -> None:
    assert reason(attributes) is expected


def test_an_open_route_asks_for_no_key_and_ignores_one() -> None:
    for attributes in (request("POST", "/v1/public/login"), request("POST", "/v1/public/login", KEY, "junk")):
        planned = plan(POLICY, attributes)
        assert isinstance(planned, Allow)
        assert planned.principal is None


def test_a_session_route_passes_without_a_key() -> None:
    assert isinstance(plan(POLICY, request("GET", "/dashboard/keys")), Allow)


def test_a_lookup_carries_the_digest_and_the_cost_of_its_route() -> None:
    planned = lookup(request("GET", "/v1/reports?account_id=acct_1", KEY))
    assert planned.digest == digest(KEY.encode())
    assert planned.cost == 5
    assert lookup(request("GET", "/v1/nowhere", KEY)).cost == 1


def test_neither_lookup_nor_attributes_show_the_key() -> None:
    attributes = request("GET", "/v1/whoami", KEY, body=KEY.encode())
    assert KEY not in repr(attributes)
    assert KEY not in repr(lookup(attributes))


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (TakeOutcome.UNKNOWN, DenyReason.KEY_UNKNOWN),
        (TakeOutcome.REVOKED, DenyReason.KEY_REVOKED),
        (TakeOutcome.EXPIRED, DenyReason.KEY_EXPIRED),
        (TakeOutcome.DISABLED, DenyReason.KEY_DISABLED),
        (TakeOutcome.SUSPENDED, DenyReason.ACCOUNT_SUSPENDED),
        (TakeOutcome.LIMITED, DenyReason.RATE_LIMITED),
    ],
)
def test_a_key_that_opens_nothing_is_refused_before_the_route_is_looked_at(
    outcome: TakeOutcome, expected: DenyReason
) -> None:
    for target in ("/v1/servers/s1", "/v1/admin/x", "/v1/nowhere"):
        assert reason(request("GET", target, KEY), take("servers:read", outcome=outcome, remaining=0)) is expected


def test_an_unknown_key_has_no_principal() -> None:
    decision = conclude(
        lookup(request("GET", "/v1/whoami", KEY)), Take(TakeOutcome.UNKNOWN, KeyRecord(KeyState.UNKNOWN))
    )
    assert isinstance(decision, Deny)
    assert decision.principal is None


def test_a_granted_take_without_a_bucket_is_refused() -> None:
    decision = conclude(lookup(request("GET", "/v1/whoami", KEY)), Take(TakeOutcome.GRANTED, record()))
    assert isinstance(decision, Deny)


def test_an_empty_bucket_gives_retry_after() -> None:
    decision = conclude(
        lookup(request("GET", "/v1/whoami", KEY)), take(outcome=TakeOutcome.LIMITED, remaining=0.2, limit=LIMIT)
    )
    assert isinstance(decision, Deny)
    assert decision.retry_after_s == 1


def test_a_path_known_under_other_methods_lists_them() -> None:
    decision = conclude(lookup(request("PUT", "/v1/servers", KEY)), take())
    assert isinstance(decision, Deny)
    assert decision.methods == ("GET", "HEAD", "POST")


def test_a_scope_is_held_exactly() -> None:
    attributes = request("GET", "/v1/servers/s1", KEY)
    for scopes in (("servers:write",), ("servers",), ("servers:read2",), ("SERVERS:READ",), ("*",)):
        assert reason(attributes, take(*scopes)) is DenyReason.SCOPE_MISSING
    assert isinstance(conclude(lookup(attributes), take("servers:read")), Allow)


def test_an_account_named_anywhere_must_be_the_callers_own() -> None:
    own = conclude(lookup(request("GET", "/v1/accounts/acct_1/wallet", KEY)), take("billing:read"))
    assert isinstance(own, Allow)
    other = request("GET", "/v1/accounts/acct_2/wallet", KEY)
    assert reason(other, take("billing:read")) is DenyReason.ACCOUNT_MISMATCH
    assert isinstance(conclude(lookup(request("GET", "/v1/servers", KEY)), take()), Allow)


@given(st.text(), st.text(), st.lists(st.text(), max_size=2))
def test_no_request_without_a_good_key_passes_a_keyed_table(method: str, target: str, keys: list[str]) -> None:
    keyed = policy(*(route for route in POLICY.routes if route.scope and not route.shadow))
    try:
        attributes = request(method, target, *keys)
    except UnicodeEncodeError:
        return
    assert isinstance(plan(keyed, attributes), Deny)


def test_allow_needs_all_of_it() -> None:
    # Of all combinations of outcome, scope and account, one alone allows.
    allowed = [
        (outcome, scope, account)
        for outcome, scope, account in product(TakeOutcome, ("billing:read", "servers:read"), ("acct_1", "acct_2"))
        if isinstance(
            conclude(
                lookup(request("GET", f"/v1/accounts/{account}/wallet", KEY)),
                take(scope, outcome=outcome, remaining=3),
            ),
            Allow,
        )
    ]
    assert allowed == [(TakeOutcome.GRANTED, "billing:read", "acct_1")]


STREAM = Allow(POLICY.routes[5], record().principal, take().bucket)


def test_a_stream_passes_with_the_lease_it_was_granted() -> None:
    decision = admit(STREAM, LOGS, "42", Acquisition(AcquireOutcome.GRANTED, of_key=2, of_account=5))
    assert decision == Allow(STREAM.route, STREAM.principal, STREAM.bucket, streams=StreamUse(LOGS, 2, 5, "42"))


@pytest.mark.parametrize("outcome", [outcome for outcome in AcquireOutcome if outcome is not AcquireOutcome.GRANTED])
def test_a_stream_without_a_lease_is_refused_without_retry_after(outcome: AcquireOutcome) -> None:
    decision = admit(STREAM, LOGS, "42", Acquisition(outcome, of_key=3, of_account=3))
    assert isinstance(decision, Deny)
    assert (decision.route, decision.principal, decision.bucket) == (STREAM.route, STREAM.principal, STREAM.bucket)
    assert (decision.retry_after_s, decision.streams) == (None, StreamUse(LOGS, 3, 3))
    caps = {
        AcquireOutcome.KEY_FULL: DenyReason.STREAMS_OF_KEY,
        AcquireOutcome.ACCOUNT_FULL: DenyReason.STREAMS_OF_ACCOUNT,
        AcquireOutcome.STOPPED: DenyReason.KEY_REVOKED,
    }
    assert decision.reason is caps.get(outcome, DenyReason.INTERNAL)
