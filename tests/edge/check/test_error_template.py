"""Refusals in the operator's form: each value is of its request, and the bytes are those of protobuf."""

import json
from dataclasses import replace

import pytest
import yaml
from support.builders import KEY, policy

from authz._pb.check_pb2 import CheckResponse
from authz.core.bodies.template import ErrorTemplate
from authz.core.check import Deny, RequestAttributes
from authz.core.errors import DenyReason
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, ErrorFormat, Route
from authz.edge.check.codec import encode
from authz.edge.check.local_replies import local_reply_config
from authz.edge.check.responses import ResponseWriter

BODY = (
    '{"error":{"http":${status},"code":"${reason}","text":${message},"id":"${request_id}","wait":${retry_after_s},'
    '"scope":${scope},"grpc":${code},"see":"${documentation_url}#${reason}","api":"${domain}","title":${title}}}'
)
ROUTE = Route("GET", "/a", Access.SCOPE, "a:read", errors=ErrorFormat.TEMPLATE)
PLAIN = Route("GET", "/b", Access.SCOPE, "a:read")


def templated(body: str = BODY, content_type: str = "application/json") -> Policy:
    template = ErrorTemplate(content_type, body, "https://shop.example/errors")
    return replace(policy(ROUTE, PLAIN), error_template=template, errors=ErrorFormat.TEMPLATE)


def asked(request_id: str, *, is_grpc: bool = False) -> RequestAttributes:
    return RequestAttributes("stream", "GET", "/a", (KEY.encode(),), is_grpc, x_request_id=request_id.encode())


def test_two_refusals_for_one_reason_have_their_own_values() -> None:
    loaded = templated()
    writer = ResponseWriter(loaded)
    for request_id, wait_s in (("one", 3), ("two", None), ('x"\r\n<', 7)):
        for deny in (Deny(DenyReason.SCOPE_MISSING, ROUTE), Deny(DenyReason.RATE_LIMITED, ROUTE, retry_after_s=wait_s)):
            attributes = asked(request_id)
            assert writer.write(attributes, deny) == encode(loaded, attributes, deny).SerializeToString(
                deterministic=True
            )
            response = CheckResponse.FromString(writer.write(attributes, deny)).denied_response
            found = json.loads(response.body)["error"]
            assert found["id"] == request_id.rstrip('"\r\n<')
            assert found["wait"] == deny.retry_after_s
            assert found["see"] == f"https://shop.example/errors#{found['code']}"
            assert found["http"] == response.status.code
    assert found["text"] == "rate limit exceeded"


def test_rows_with_another_format_and_grpc_keep_theirs() -> None:
    loaded = templated()
    other = encode(loaded, asked("x"), Deny(DenyReason.SCOPE_MISSING, PLAIN)).denied_response
    assert json.loads(other.body)["message"] == "missing scope a:read"
    grpc = encode(loaded, asked("x", is_grpc=True), Deny(DenyReason.SCOPE_MISSING, ROUTE)).denied_response
    assert grpc.body == "missing scope a:read"
    unmatched = encode(loaded, asked("x"), Deny(DenyReason.ROUTE_UNKNOWN)).denied_response
    assert json.loads(unmatched.body)["error"]["http"] == 404


@pytest.mark.parametrize("reason", DenyReason)
def test_every_reason_has_a_body_and_none_shows_the_private_reason(reason: DenyReason) -> None:
    deny = Deny(reason, ROUTE)
    body = encode(templated(), asked("x"), deny)
    text = body.denied_response.body or body.error_response.body
    assert json.loads(text)["error"]["http"] >= 400
    if reason in {DenyReason.KEY_UNKNOWN, DenyReason.KEY_REVOKED, DenyReason.KEY_EXPIRED}:
        assert json.loads(text)["error"]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    ("content_type", "body", "has_id"),
    [
        ("application/json", '{"id": "${request_id}", "n": ${status}}', True),
        ("application/json", '{"id": "${request_id}", "n": null}', False),
        ("application/json", '["${request_id}"]', False),
        ("application/json", '{"100%": "${request_id}"}', True),
        ("text/plain", "100% ${request_id}\n", True),
        ("application/xml", "<e>${request_id}</e>", False),
    ],
)
def test_envoys_own_replies_have_the_form_as_far_as_envoy_escapes(
    content_type: str, body: str, *, has_id: bool
) -> None:
    config = yaml.safe_load(local_reply_config(templated(body, content_type)))
    formats = [it["body_format_override"] for it in config["local_reply_config"]["mappers"]]
    last = formats[-10]  # of the policy, for 408
    assert {it["content_type"] for it in formats} == {"application/json", content_type}
    assert ("%REQ(X-REQUEST-ID)%" in json.dumps(last)) == has_id


def test_a_reply_of_a_row_of_one_host_is_that_of_requests_to_that_host() -> None:
    rows = (replace(ROUTE, hosts=("a.example", "*.b.example")), replace(PLAIN, hosts=("c.example",)))
    loaded = replace(policy(*rows), error_template=ErrorTemplate("text/plain", "x"))
    (first, *_) = yaml.safe_load(local_reply_config(loaded))["local_reply_config"]["mappers"]
    text = json.dumps(first["filter"])
    assert ":authority" in text
    assert "(?i)(a\\\\\\\\.example|.+\\\\\\\\.b\\\\\\\\.example)[.]?(:[0-9]*)?" in text.replace("\\\\", "\\\\\\\\")
