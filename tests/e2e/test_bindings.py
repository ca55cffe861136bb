"""Account bindings through the real Envoy: bodies arrive whole and as bytes, or the request is refused."""

import json

import httpx
import pytest
from support.clients.raw_h2 import send_h2
from support.clients.raw_http import send_settled
from support.servers.stack import Keys

from authz.demo.stack import Stack

JSON = ("content-type", "application/json")


def create(stack: Stack, keys: Keys, body: bytes, content_type: str = "application/json") -> int:
    headers = (("x-api-key", keys.all_scopes), ("content-type", content_type))
    return send_settled(stack.url, "POST", "/v1/servers", *headers, body=body).status


def test_a_body_that_names_the_own_account_passes(stack: Stack, keys: Keys) -> None:
    assert create(stack, keys, json.dumps({"accountId": stack.account_id}).encode()) == 200
    assert create(stack, keys, json.dumps({"name": "wörld!"}, ensure_ascii=False).encode()) == 200


def test_a_foreign_account_is_refused_in_every_spelling(stack: Stack, keys: Keys) -> None:
    assert create(stack, keys, b'{"accountId": "acct_other"}') == 403
    for body in (
        b'{"accountId\xff": "acct_other"}',
        b'{"ACCOUNT_ID": "acct_other"}',
        b'{"accountId": "a", "accountId": "b"}',
    ):
        assert create(stack, keys, body) == 400
    for query in (
        "ACCOUNT_ID=acct_other",
        "account_id[]=acct_other",
        f"account_id={stack.account_id}&account.id=acct_other",
    ):
        answer = send_settled(stack.url, "GET", f"/v1/servers?{query}", ("x-api-key", keys.all_scopes))
        assert answer.status == 400


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_other_content_types_are_refused(stack: Stack, keys: Keys, content_type: str) -> None:
    body = b"accountId=acct_other" if content_type else b'{"accountId": "acct_other"}'
    assert create(stack, keys, body, content_type) == 415


def test_a_body_beyond_the_limit_is_refused(stack: Stack, keys: Keys) -> None:
    own = json.dumps({"accountId": stack.account_id}).encode()
    assert create(stack, keys, own + b" " * (65_536 - len(own))) == 200
    assert create(stack, keys, own + b" " * 65_536) == 413


def test_http_2_bodies_without_a_length_are_read(stack: Stack, keys: Keys) -> None:
    with httpx.Client(http1=False, http2=True) as client:
        for account, status in ((stack.account_id, 200), ("acct_other", 403)):
            body = json.dumps({"accountId": account}).encode()
            answer = client.post(
                f"{stack.url}/v1/servers", content=iter([body]), headers=[JSON, ("x-api-key", keys.all_scopes)]
            )
            assert answer.status_code == status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_of_a_get_is_refused_where_the_query_is_bound(stack: Stack, keys: Keys, method: str) -> None:
    key = ("x-api-key", keys.all_scopes)
    target = f"/v1/servers?account_id={stack.account_id}"
    assert send_settled(stack.url, method, target, key, JSON).status == 200
    assert send_h2(stack.url, method, target, key, JSON).status == 200
    body = b'{"account_id": "acct_other"}'
    assert send_settled(stack.url, method, target, key, JSON, body=body).status == 400
    for length in ((), (("content-length", str(len(body))),)):
        assert send_h2(stack.url, method, target, key, JSON, *length, body=body).status == 400


def test_a_content_type_and_a_content_encoding_are_read_whole(stack: Stack, keys: Keys) -> None:
    own = json.dumps({"accountId": stack.account_id}).encode()
    assert create(stack, keys, own, f"application/json{' ' * 112}; charset=utf-16") == 415
    for encoding, status in (("gzip", 415), ("br", 415), ("identity", 200)):
        headers = (("x-api-key", keys.all_scopes), JSON, ("content-encoding", encoding))
        assert send_settled(stack.url, "POST", "/v1/servers", *headers, body=own).status == status


def test_other_routes_send_no_body_to_authz(stack: Stack, keys: Keys) -> None:
    large = b"x" * 200_000
    headers = (("x-api-key", keys.all_scopes), ("content-type", "application/octet-stream"))
    assert send_settled(stack.url, "POST", "/v1/servers/s1/file", *headers, body=large).status == 200


@pytest.mark.parametrize("name", ["x-original-url", "x-rewrite-url", "x-forwarded-prefix"])
def test_no_header_names_another_path_to_the_backend(stack: Stack, keys: Keys, name: str) -> None:
    answer = send_settled(stack.url, "GET", "/v1/servers/s1", ("x-api-key", keys.reader), (name, "/v1/admin"))
    assert answer.status == 400 or answer.backend_saw(name) == []


def test_head_follows_get_and_colons_and_methods_are_refused(stack: Stack, keys: Keys) -> None:
    key = ("x-api-key", keys.all_scopes)
    assert send_settled(stack.url, "HEAD", "/v1/servers/s1", key).status == 200
    for method, target in (
        ("GET", "/v1/servers/abc%3Azz"),
        ("GET", "/v1/servers/a%EF%BC%8Fb"),
        ("POST", "/v1/servers/s1:start?_method=DELETE"),
    ):
        assert send_settled(stack.url, method, target, key).status == 400
