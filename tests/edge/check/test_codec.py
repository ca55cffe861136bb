"""The response format of each kind of caller."""

import json

import pytest
from support.builders import KEY, LOGS, policy, request, take

from authz._pb.check_pb2 import CheckResponse
from authz.core.check import Allow, Bucket, Decision, Deny, Principal, RequestAttributes
from authz.core.errors import DENIALS, DenyReason
from authz.core.limits import Limit
from authz.core.policy.policy import RateHeaders
from authz.core.policy.route import Access, ErrorFormat, Route
from authz.core.streams import StreamUse
from authz.edge.check.codec import encode

POLICY = policy()
PRINCIPAL = Principal("acct_1", "key_1", frozenset({"servers:write", "servers:read"}))
ROUTE = Route("GET", "/v1/servers", Access.SCOPE, "servers:read")
IDENTITY = ("x-authz-account-id", "x-authz-key-id", "x-authz-scopes")


def headers(answer: CheckResponse) -> dict[str, str]:
    options = answer.ok_response.response_headers_to_add or answer.denied_response.headers
    return {option.header.key: option.header.value for option in options or answer.error_response.headers}


def refusal(reason: DenyReason, attributes: RequestAttributes | None = None, **fields: object) -> CheckResponse:
    return encode(POLICY, attributes or request(), Deny(reason, **fields))  # type: ignore[arg-type]


def test_an_allow_overwrites_the_identity_headers_and_removes_the_key() -> None:
    answer = encode(POLICY, request(), Allow(ROUTE, PRINCIPAL, take().bucket))
    assert answer.WhichOneof("http_response") == "ok_response"
    assert answer.status.code == 0
    assert [(option.header.key, option.header.value) for option in answer.ok_response.headers] == [
        ("x-authz-account-id", "acct_1"),
        ("x-authz-key-id", "key_1"),
        ("x-authz-scopes", "servers:read servers:write"),
    ]
    assert list(answer.ok_response.headers_to_remove) == ["x-api-key"]
    assert dict(answer.dynamic_metadata) == {
        "decision": "allow",
        "route": "/v1/servers",
        "account_id": "acct_1",
        "key_id": "key_1",
    }


def test_an_open_route_sets_no_identity() -> None:
    answer = encode(POLICY, request(), Allow(Route("POST", "/v1/public/login", Access.PUBLIC)))
    assert not answer.ok_response.headers
    assert not answer.ok_response.response_headers_to_add
    assert list(answer.ok_response.headers_to_remove) == ["x-api-key", *IDENTITY]


@pytest.mark.parametrize("principal", [None, PRINCIPAL])
@pytest.mark.parametrize("would_deny", [None, DenyReason.SCOPE_MISSING])
def test_an_allow_removes_every_identity_header_of_the_client_that_it_does_not_set(
    principal: Principal | None, would_deny: DenyReason | None
) -> None:
    sent = request(reserved_headers=("x-authz-scopes", "x-authz-proxy", "x-authz-other"))
    ok = encode(POLICY, sent, Allow(ROUTE, principal, would_deny=would_deny)).ok_response
    removed, is_set = list(ok.headers_to_remove), {option.header.key for option in ok.headers}
    assert len(removed) == len(set(removed))
    assert is_set.isdisjoint(removed)  # Envoy removes after it sets
    assert is_set | set(removed) == {"x-api-key", *IDENTITY, "x-authz-proxy", "x-authz-other"}


def test_rate_headers_replace_what_a_backend_sends() -> None:
    answer = encode(POLICY, request(), Allow(ROUTE, PRINCIPAL, Bucket.of(Limit(120, 2), 118.6)))
    assert headers(answer) == {
        "ratelimit-policy": '"default";q=120;w=60',
        "ratelimit": '"default";r=118;t=1',
        "x-ratelimit-limit": "120",
        "x-ratelimit-remaining": "118",
        "x-ratelimit-reset": "1",
    }
    assert {option.append_action for option in answer.ok_response.response_headers_to_add} == {2}


def test_an_accounts_bucket_is_a_second_policy_and_shown_where_it_is_the_emptier_one() -> None:
    policies = '"default";q=120;w=60, "account";q=3000;w=60'
    key, account = Limit(120, 2), Limit(3000, 50)
    answer = encode(POLICY, request(), Allow(ROUTE, PRINCIPAL, Bucket.of(key, 118.6, account)))
    assert (headers(answer)["ratelimit-policy"], headers(answer)["ratelimit"]) == (policies, '"default";r=118;t=1')
    refusal = Deny(DenyReason.RATE_LIMITED, ROUTE, PRINCIPAL, Bucket.of(account, 0.4, key, is_account=True), (), 1)
    denied = {
        option.header.key: option.header.value for option in encode(POLICY, request(), refusal).denied_response.headers
    }
    assert denied["ratelimit-policy"] == policies
    assert denied["ratelimit"] == '"account";r=0;t=60'
    assert (denied["retry-after"], denied["x-ratelimit-limit"]) == ("1", "3000")


@pytest.mark.parametrize(("ietf", "legacy", "count"), [(True, False, 2), (False, True, 3), (False, False, 0)])
def test_each_family_of_rate_headers_can_be_switched_off(ietf: bool, legacy: bool, count: int) -> None:  # noqa: FBT001
    switched = policy(rate_headers=RateHeaders(ietf=ietf, legacy=legacy))
    assert len(headers(encode(switched, request(), Allow(ROUTE, PRINCIPAL, take().bucket)))) == count


@pytest.mark.parametrize("reason", DenyReason)
def test_no_refusal_is_an_ok(reason: DenyReason) -> None:
    answer = refusal(reason)
    assert answer.status.code == DENIALS[reason].code != 0
    refused = answer.denied_response if answer.HasField("denied_response") else answer.error_response
    assert refused.status.code == DENIALS[reason].http
    assert answer.HasField("error_response") is (DENIALS[reason].http == 503)


def test_a_refusal_is_json_as_grpc_gateway_writes_it() -> None:
    answer = refusal(DenyReason.SCOPE_MISSING, route=ROUTE, principal=PRINCIPAL)
    assert json.loads(answer.denied_response.body) == {
        "code": 7,
        "message": "missing scope servers:read",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "FORBIDDEN",
                "domain": "api.truetick.example",
                "metadata": {"scope": "servers:read"},
            }
        ],
    }
    assert headers(answer)["content-type"] == "application/json"
    assert headers(answer)["cache-control"] == "no-store"


def test_a_text_route_answers_one_line() -> None:
    route = Route("GET", "/v1/logs", Access.SCOPE, "servers:read", errors=ErrorFormat.TEXT)
    assert refusal(DenyReason.SCOPE_MISSING, route=route).denied_response.body == "forbidden\n"
    assert refusal(DenyReason.KEY_MISSING, route=route).denied_response.body == "unauthorized\n"


def test_a_401_says_how_to_authenticate() -> None:
    assert headers(refusal(DenyReason.KEY_REVOKED))["www-authenticate"] == 'ApiKey realm="truetick"'
    assert "www-authenticate" not in headers(refusal(DenyReason.BARRED))


def test_a_429_carries_retry_after() -> None:
    answer = refusal(DenyReason.RATE_LIMITED, bucket=Bucket.of(Limit(120, 2), 0.5), retry_after_s=1)
    sent = headers(answer)
    assert sent["retry-after"] == "1"
    assert sent["ratelimit"] == '"default";r=0;t=60'
    assert json.loads(answer.denied_response.body)["message"] == "rate limit exceeded"


def test_a_405_lists_the_methods() -> None:
    assert headers(refusal(DenyReason.METHOD_UNKNOWN, methods=("GET", "POST")))["allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (DenyReason.RATE_LIMITED, "8"),
        (DenyReason.KEY_MISSING, "16"),
        (DenyReason.BARRED, "7"),
        (DenyReason.STORE_UNAVAILABLE, "14"),
    ],
)
def test_a_native_grpc_caller_gets_its_own_status(reason: DenyReason, status: str) -> None:
    answer = refusal(reason, request(is_grpc=True))
    assert headers(answer)["grpc-status"] == status
    body = (answer.denied_response if answer.HasField("denied_response") else answer.error_response).body
    assert body == DENIALS[reason].message
    assert "grpc-status" not in headers(refusal(reason))


def test_metadata_names_the_reason_and_never_the_key() -> None:
    decisions: list[Decision] = [
        Deny(DenyReason.KEY_REVOKED, ROUTE, PRINCIPAL),
        Allow(ROUTE, would_deny=DenyReason.KEY_MISSING),
    ]
    answers = [encode(POLICY, request("GET", "/v1/servers", KEY), decision) for decision in decisions]
    assert [dict(answer.dynamic_metadata)["reason"] for answer in answers] == ["key_revoked", "key_missing"]
    assert all(KEY not in str(answer) for answer in answers)


STREAM = Route("GET", "/v1/logs", Access.SCOPE, "servers:read", errors=ErrorFormat.TEXT, stream="logs")


@pytest.mark.parametrize(
    ("reason", "whose"), [(DenyReason.STREAMS_OF_KEY, "key"), (DenyReason.STREAMS_OF_ACCOUNT, "account")]
)
def test_too_many_streams_are_refused_in_the_routes_format(reason: DenyReason, whose: str) -> None:
    use = StreamUse(LOGS, of_key=3, of_account=10)
    answer = refusal(reason, route=STREAM, bucket=take().bucket, streams=use)
    assert answer.denied_response.status.code == 429
    assert answer.denied_response.body == f"too many concurrent log streams for this {whose}\n"
    assert "retry-after" not in headers(answer)
    written = json.loads(refusal(reason, route=ROUTE, streams=use).denied_response.body)
    assert written["message"] == f"too many concurrent log streams for this {whose}"
    assert written["details"][0]["reason"] == f"TOO_MANY_CONCURRENT_STREAMS_FOR_THIS_{whose.upper()}"
    assert written["details"][0]["metadata"] == {"stream": "logs"}


def test_remaining_stream_slots_are_reported_in_concurrent_requests() -> None:
    bucket, use = Bucket.of(Limit(120, 2), 118), StreamUse(LOGS, of_key=1, of_account=4, lease_id="42")
    allowed = headers(encode(POLICY, request(), Allow(STREAM, PRINCIPAL, bucket, streams=use)))
    assert allowed["ratelimit-policy"] == (
        '"default";q=120;w=60, "logs-key";q=3;qu="concurrent-requests", "logs-account";q=10;qu="concurrent-requests"'
    )
    assert allowed["ratelimit"] == '"default";r=118;t=1, "logs-key";r=2, "logs-account";r=6'
    refused = headers(refusal(DenyReason.STREAMS_OF_KEY, bucket=bucket, streams=StreamUse(LOGS, 4, 11)))
    assert refused["ratelimit"] == '"default";r=118;t=1, "logs-key";r=0, "logs-account";r=0'


def test_only_a_stream_with_a_lease_is_named_to_envoys_access_log() -> None:
    allow = Allow(STREAM, PRINCIPAL, take().bucket, streams=StreamUse(LOGS, 1, 1, "42"))
    described = dict(encode(POLICY, request(), allow).dynamic_metadata)
    assert (described["lease_id"], described["stream"], described["key_id"]) == ("42", "logs", "key_1")
    refused = refusal(DenyReason.STREAMS_OF_KEY, route=STREAM, streams=StreamUse(LOGS, 3, 3))
    assert "lease_id" not in refused.dynamic_metadata
    assert "lease_id" not in encode(POLICY, request(), Allow(ROUTE, PRINCIPAL, take().bucket)).dynamic_metadata
