"""What is read from Envoy's message."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from support.builders import KEY, KEYS
from support.check_requests import ID, Header, message

from authz._pb.base_pb2 import HeaderMap
from authz._pb.check_pb2 import CheckRequest
from authz.core.bindings.json_body import is_json
from authz.core.check import BodyForm, RequestAttributes
from authz.core.keys import KeyFormat
from authz.core.policy.overrides import METHOD_HEADERS, Override
from authz.core.policy.policy import KeyRules
from authz.edge.check.attributes import AttributesReader

NAMES = (
    "x-api-key",
    "x-api-kez",
    "x-request-id",
    "content-type",
    "content-length",
    "transfer-encoding",
    *METHOD_HEADERS,
)
VALUES = st.one_of(
    st.just(KEY.encode()),
    st.binary(min_size=len(KEY), max_size=len(KEY)),
    st.binary(max_size=60),
    st.just(b"0"),
    st.just(ID),
)
HEADERS = st.tuples(st.sampled_from(NAMES), VALUES)
OLD_HAND = AttributesReader(KEYS)


def read(sent: CheckRequest, keys: KeyRules = KEYS) -> RequestAttributes:
    return AttributesReader(keys).read(CheckRequest.FromString(sent.SerializeToString()))


def test_the_target_keeps_its_query_and_the_address_is_envoys() -> None:
    attributes = read(message())
    assert (attributes.request_id, attributes.method, attributes.target) == ("42", "GET", "/v1/servers?x=1")
    assert attributes.source_address() == "203.0.113.9"


@pytest.mark.parametrize("raw", [True, False])
def test_the_address_is_the_one_behind_trusted_proxies_where_envoy_tells_it(raw: bool) -> None:  # noqa: FBT001
    fields = (("x-api-key", b"a"), ("x-forwarded-for", b"6.6.6.6"), ("x-envoy-external-address", b"198.51.100.7"))
    assert read(message(*fields, raw=raw)).source_address() == "198.51.100.7"
    claimed = read(message(("x-forwarded-for", b"6.6.6.6"), raw=raw))
    assert claimed.source_address() == "203.0.113.9"
    endless = read(message(("x-envoy-external-address", b"9" * 60_000), raw=raw))
    assert len(endless.source_address()) < 100


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("key", [KEY, KEY[:-1], "", KEY * 9])
def test_the_key_is_read_in_both_header_encodings(raw: bool, key: str) -> None:  # noqa: FBT001 -- parametrised
    assert read(message(("x-api-key", key.encode()), raw=raw)).api_keys == (key.encode(),)


def test_every_value_of_the_key_header_is_kept() -> None:
    attributes = read(message(("x-api-key", b"a"), ("x-api-key", b""), ("x-api-key", b"\xe9")))
    assert attributes.api_keys == (b"a", b"", b"\xe9")


def test_the_key_header_has_the_policys_name() -> None:
    keys = KeyRules("x-other", KeyFormat("ttk_"), 5)
    assert read(message(("x-api-key", KEY.encode())), keys).api_keys == ()
    assert read(message(("x-other", KEY.encode())), keys).api_keys == (KEY.encode(),)


def said(sent: CheckRequest) -> RequestAttributes | None:
    """What protobuf and nothing else reads of the headers; None where it cannot."""
    try:
        headers = HeaderMap.FromString(sent.attributes.request.http.header_map).headers
    except DecodeError:
        return None
    fields = [(header.key, header.raw_value or header.value.encode()) for header in headers]
    values = dict(fields)
    return RequestAttributes(
        "42",
        "GET",
        "/v1/servers?x=1",
        tuple(value for name, value in fields if name == "x-api-key"),
        (values.get("content-type", b"") + b"+").startswith(b"application/grpc+"),
        None if METHOD_HEADERS.isdisjoint(values) else Override.METHOD,
        any(name == "transfer-encoding" or (name == "content-length" and value != b"0") for name, value in fields),
        x_request_id=next((value for name, value in fields if name == "x-request-id"), b""),
    )


def assert_agrees(sent: CheckRequest) -> None:
    """A reader that has met many requests reads what protobuf does, and so again now that it has met this one."""
    expected = said(sent)
    for _ in range(2):
        if expected is None:
            with pytest.raises(DecodeError):
                OLD_HAND.read(sent)
        else:
            attributes = OLD_HAND.read(sent)
            for name in ("api_keys", "is_grpc", "overrides", "has_body", "x_request_id"):
                assert getattr(attributes, name) == getattr(expected, name), name


@given(st.lists(HEADERS, max_size=3), st.lists(HEADERS, max_size=2), st.binary(min_size=len(KEY), max_size=len(KEY)))
@example([], [], KEY.encode())
@example([("content-type", b"application/grpc")], [("content-length", b"0")], KEY.encode())
@example([("x-api-key", KEY.encode())], [], KEY.encode())
@example([("transfer-encoding", b"chunked")], [("content-length", b"0")], KEY.encode())
def test_any_key_among_the_same_headers_is_read(before: list[Header], after: list[Header], other: bytes) -> None:
    for key in (KEY.encode(), other, other[:-1], b""):
        assert_agrees(message(*before, ("x-api-key", key), *after))
    assert_agrees(message(*before, *after))


@given(st.lists(HEADERS, max_size=2), st.data())
def test_a_damaged_header_map_is_what_protobuf_makes_of_it(headers: list[Header], data: st.DataObject) -> None:
    sent = message(*headers, ("x-api-key", KEY.encode()), ("content-length", b"2"))
    assert_agrees(sent)
    whole = sent.attributes.request.http.header_map
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:place] + data.draw(st.binary(max_size=2)) + whole[place + data.draw(st.integers(0, 2)) :]
    sent.attributes.request.http.header_map = damaged
    assert_agrees(sent)


def test_a_key_inside_of_another_header_stays_one_header() -> None:
    whole = message(("x-api-key", KEY.encode())).attributes.request.http.header_map
    for key in (KEY, KEY[::-1]):
        assert_agrees(message(("content-type", whole.replace(KEY.encode(), key.encode())), ("x-api-key", b"b")))


def test_an_id_that_is_too_long_is_replaced() -> None:
    assert read(message(("x-request-id", b"7" * 60_000))).x_request_id == b"[too long]"


@pytest.mark.parametrize(
    ("content_type", "is_grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc-web+proto", False),
        (b"application/grpcfoo", False),
        (b"application/grpc;charset=utf-8", False),
        (b"application/grpc,application/json", False),
        (b"application/grpc ", False),
        (b"Application/grpc", False),
        (b"application/json", False),
    ],
)
def test_native_grpc_callers_are_known_by_their_content_type(content_type: bytes, is_grpc: bool) -> None:  # noqa: FBT001
    assert read(message(("content-type", content_type))).is_grpc is is_grpc


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("name", ["x-authz-account-id", "X-Authz-Other", "x_authz_scopes", "x_api_key"])
def test_reserved_headers_are_found_in_both_header_encodings(raw: bool, name: str) -> None:  # noqa: FBT001
    reader = AttributesReader(KEYS)
    for key in (KEY, KEY[::-1], KEY):  # the bytes around the key are cached only if they are known headers
        sent = message(("accept", b"*/*"), ("x-api-key", key.encode()), (name, b"acct_forged"), raw=raw)
        assert reader.read(sent).reserved_headers == (name,)
        assert reader.read(message(("x-api-key", key.encode()), raw=raw)).reserved_headers == ()


def test_method_overrides_and_bodies_are_noticed() -> None:
    for name in METHOD_HEADERS:
        assert read(message((name, b"DELETE"))).overrides is Override.METHOD
    for name, override in (("x-original-url", Override.PATH), ("x_original-url", Override.ALIAS)):
        assert read(message((name, b"/v1/admin"), ("accept", b"a"), ("x-rewrite-url", b"/"))).overrides is override
    assert read(message(("content-length", b"5"))).has_body
    assert read(message(("transfer-encoding", b"chunked"))).has_body
    assert not read(message(("content-length", b"0"))).has_body
    assert not read(message(method="POST", protocol="HTTP/1.1")).has_body
    for protocol in ("HTTP/2", "HTTP/3", ""):
        assert read(message(method="POST", protocol=protocol)).has_body
    assert not read(message(("content-length", b"0"), method="POST", protocol="HTTP/2")).has_body
    for method in ("GET", "HEAD"):
        assert not read(message(method=method, protocol="HTTP/2")).has_body
        assert read(message(("content-length", b"2"), method=method, protocol="HTTP/2")).has_body


def test_a_body_sent_as_text_is_read_unless_envoy_may_have_altered_it() -> None:
    for text, expected in (("{}", b"{}"), ('{"accountId!": "a"}', b"")):
        attributes = read(message(body=text))
        assert (attributes.body, attributes.has_body) == (expected, True)


@pytest.mark.parametrize("tail", [b"; charset=utf-16", b",text/plain", b"+xml", b""])
@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_a_content_type_is_read_whole_or_not_at_all(tail: bytes, blank: bytes) -> None:
    for blanks in (112, 113, 200, 60_000):
        value = b"application/json" + blank * blanks + tail
        content_type = read(message(("content-type", value))).body_form.content_type
        assert content_type == value.decode() or not is_json(content_type)


def test_a_content_encoding_is_noticed() -> None:
    reader = AttributesReader(KEYS)
    for value in (b"gzip", b"br", b"", b"identity, gzip", b"identity", b"Identity"):
        is_encoded = value.lower() != b"identity"
        for _ in range(2):
            form = reader.read(message(("content-encoding", value), ("x-api-key", KEY.encode()))).body_form
            assert form.is_encoded is is_encoded
    assert read(message(("content-encoding", b"identity"), ("content-encoding", b"gzip"))).body_form.is_encoded


def test_the_form_of_a_body_is_read() -> None:
    form = read(message(("content-type", b"application/json"), ("x-envoy-auth-partial-body", b"false"))).body_form
    assert form == BodyForm("application/json")
    spoofed = (("x-envoy-auth-partial-body", b"false"), ("x-envoy-auth-partial-body", b"true"))
    assert read(message(*spoofed)).body_form.is_partial
    twice = read(message(("content-type", b"application/json"), ("content-type", b"text/plain"))).body_form
    assert twice.content_type == "application/json,text/plain"
    assert read(message(body="{}")).body == b"{}"
