"""Headers through the real Envoy: the backend receives no key and no forged identity; malformed keys are refused."""

import pytest
from support.clients.raw_http import Answer, send_settled
from support.servers.stack import Keys

from authz.demo.stack import Stack

FORGED = [
    ("x-authz-account-id", "acct_forged"),
    ("X-Authz-Account-Id", "acct_forged"),
    ("x-authz-scopes", "servers:write"),
    ("x-authz-key-id", "key_forged"),
    ("x-authz-anything-else", "yes"),
    ("x-authz-proxy", "yes"),
    ("x-authz-client-address", "198.51.100.1"),
]
OVERRIDES = ["x-http-method-override", "x-http-method", "x-method-override"]


def identity(answer: Answer) -> dict[str, list[str]]:
    names = {name for name, _ in answer.document["headers"] if name.startswith(("x-authz", "x-api-key", "x_"))}
    return {name: answer.backend_saw(name) for name in names}


def identity_at_the_portal(answer: Answer) -> dict[str, list[str]]:
    """Return the identity headers that the portal received, other than those that Envoy sets."""
    seen = identity(answer)
    (proof,) = seen.pop("x-authz-proxy")
    assert len(proof) >= 32
    assert seen.pop("x-authz-client-address") == ["127.0.0.1"]
    return seen


@pytest.mark.parametrize("header", FORGED)
def test_a_forged_identity_is_replaced_on_keyed_routes(stack: Stack, keys: Keys, header: tuple[str, str]) -> None:
    answer = send_settled(stack.url, "GET", "/v1/servers/s1", ("x-api-key", keys.reader), header, header)
    assert answer.status == 200
    seen = identity(answer)
    assert seen.pop("x-authz-key-id")[0].startswith("key_")
    assert seen == {"x-authz-account-id": [stack.account_id], "x-authz-scopes": ["servers:read"]}


@pytest.mark.parametrize(("method", "target"), [("POST", "/v1/public/login"), ("GET", "/dashboard/keys")])
@pytest.mark.parametrize("header", FORGED)
def test_a_forged_identity_is_taken_off_open_routes(
    stack: Stack, method: str, target: str, header: tuple[str, str]
) -> None:
    answer = send_settled(stack.url, method, target, header)
    assert answer.status == 200
    assert identity_at_the_portal(answer) == {}


def test_a_key_sent_to_a_public_route_stays_at_the_edge(stack: Stack, keys: Keys) -> None:
    answer = send_settled(stack.url, "POST", "/v1/public/login", ("x-api-key", keys.reader), ("x-api-key", "other"))
    assert answer.status == 200
    assert identity_at_the_portal(answer) == {}
    assert keys.reader.encode() not in answer.body


@pytest.mark.parametrize("name", ["X_Authz_Account_Id", "x_authz_account_id", "x_api_key"])
def test_underscores_are_refused(stack: Stack, keys: Keys, name: str) -> None:
    for method, target in (("GET", "/v1/servers"), ("POST", "/v1/public/login")):
        answer = send_settled(stack.url, method, target, ("x-api-key", keys.reader), (name, "acct_forged"))
        assert answer.status == 400


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b"", b"{key}"],
        [b"{key}", b""],
        [b"{key}", b"{key}"],
        [b"{key},{key}"],
        [b"{key}, "],
        [b"{key} x"],
        [b"Bearer {key}"],
        [b"\xe9" * 53],
        [b"ttk_" + b"\xc3\xa9" * 24 + b"x"],
        [b"{key}\xff"],
        [b"a" * 59_000],
        [b"{key}" + b"a" * 50_000],
        [b"{key}\t{key}"],
    ],
)
def test_an_odd_key_is_a_401(stack: Stack, keys: Keys, values: list[bytes]) -> None:
    sent = [value.replace(b"{key}", keys.reader.encode()) for value in values]
    answer = send_settled(stack.url, "GET", "/v1/servers", *(("x-api-key", value) for value in sent))
    # "key, " arrives without the blank, and a comma is in no key.
    assert answer.status == 401
    assert answer.document["message"] == "invalid or missing api key"


def test_a_key_of_64_kib_is_refused_before_it_is_looked_at(stack: Stack) -> None:
    assert send_settled(stack.url, "GET", "/v1/servers", ("x-api-key", b"a" * 65_536)).status == 431


def test_the_keys_name_is_not_case_sensitive_and_blanks_around_it_are_not_part_of_it(stack: Stack, keys: Keys) -> None:
    answer = send_settled(stack.url, "GET", "/v1/servers", ("X-API-Key", f"  {keys.reader}\t"))
    assert answer.status == 200


@pytest.mark.parametrize("name", OVERRIDES)
def test_no_header_turns_one_method_into_another(stack: Stack, keys: Keys, name: str) -> None:
    for method, target in (("POST", "/v1/public/login"), ("GET", "/v1/servers")):
        assert send_settled(stack.url, method, target, ("x-api-key", keys.reader), (name, "DELETE")).status == 400


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "CONNECT"])
def test_methods_outside_the_list_never_pass(stack: Stack, keys: Keys, method: str) -> None:
    answer = send_settled(stack.url, method, "/v1/servers", ("x-api-key", keys.reader))
    assert answer.status in {400, 404}


def test_hop_by_hop_headers_cannot_drop_what_authz_sets(stack: Stack, keys: Keys) -> None:
    answer = send_settled(
        stack.url,
        "GET",
        "/v1/servers/s1",
        ("x-api-key", keys.reader),
        ("connection", "close, x-authz-account-id"),
    )
    if answer.reached_backend:
        assert answer.backend_saw("x-authz-account-id") == [stack.account_id]
