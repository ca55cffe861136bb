"""Headers around a key and a request id are cached, and read as if they were not."""

import pytest
from google.protobuf.message import DecodeError
from support.builders import KEY, KEYS
from support.check_requests import ID, header_map, message

from authz._pb.check_pb2 import CheckRequest
from authz.edge.check.attributes import AttributesReader


def test_the_id_of_each_request_is_read_beside_cached_headers() -> None:
    reader = AttributesReader(KEYS)
    for number in range(100):
        request_id = b"%036d" % number
        sent = message(("x-api-key", KEY.encode()), ("content-length", b"2"), ("x-request-id", request_id))
        assert reader.read(sent).x_request_id == request_id
    assert (len(reader._usual), len(reader._around)) == (1, 0)  # noqa: SLF001


@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize("at", range(3))
def test_the_id_is_read_wherever_it_stands_and_without_a_key(at: int, *, key: bool) -> None:
    reader, others = AttributesReader(KEYS), [("content-length", b"2"), ("x-envoy-auth-partial-body", b"false")]
    for number in range(50):
        headers = [*others[:at], ("x-request-id", b"%036d" % number), *others[at:]]
        secret = KEY[:-3] + f"{number:03}"
        sent = message(*([("x-api-key", secret.encode())] if key else []), *headers)
        found = reader.read(sent)
        assert (found.x_request_id, found.has_body, found.body_form.is_partial) == (b"%036d" % number, True, False)
        assert found.api_keys == ((secret.encode(),) if key else ())
        assert found == AttributesReader(KEYS).read(sent)
    assert len(reader._usual) + len(reader._around) == 1  # noqa: SLF001


@pytest.mark.parametrize("key", [True, False])
def test_cut_headers_are_not_taken_for_cached_ones(*, key: bool) -> None:
    reader = AttributesReader(KEYS)
    pair = [("x-api-key", KEY.encode())] if key else []
    maps = [
        message(("content-length", b"2"), *pair).attributes.request.http.header_map,
        message(("content-length", b"2"), *pair, ("x-request-id", ID)).attributes.request.http.header_map,
        message(*pair, ("x-request-id", ID), ("content-length", b"2")).attributes.request.http.header_map,
    ]
    for whole in maps:
        for _ in range(2):
            sent = CheckRequest()
            sent.attributes.request.http.header_map = whole
            reader.read(sent)
    for whole in maps:
        for stop in range(len(whole)):
            cut = CheckRequest()
            cut.attributes.request.http.header_map = whole[:stop]
            try:
                expected = AttributesReader(KEYS).read(cut)
            except DecodeError:
                with pytest.raises(DecodeError):
                    reader.read(cut)
            else:
                found = reader.read(cut)
                assert (found.api_keys, found.x_request_id) == (expected.api_keys, expected.x_request_id)
                assert (found.has_body, found.body_form) == (expected.has_body, expected.body_form)


def test_another_header_of_the_size_of_an_id_is_not_left_out() -> None:
    reader = AttributesReader(KEYS)
    name = "x-authz-account-id"
    value = b"1" * (36 - len(header_map((name, b"")).SerializeToString()) - 2)
    forged = message(("x-api-key", KEY.encode()), (name, value))
    assert len(header_map((name, value)).SerializeToString()) == 36
    for _ in range(2):
        assert reader.read(message(("x-api-key", KEY.encode()))).reserved_headers == ()
        assert reader.read(message(("x-api-key", KEY.encode()), ("x-request-id", ID))).reserved_headers == ()
        assert reader.read(forged).reserved_headers == (name,)


def test_only_headers_without_secrets_are_kept_and_not_for_ever() -> None:
    reader = AttributesReader(KEYS)
    for name in ("cookie", "x-envoy-external-address", "x-api-key"):
        reader.read(message((name, b"secret"), ("x-api-key", KEY.encode())))
    reader.read(message(("content-type", b"a" * 300), ("x-api-key", KEY.encode())))
    assert not reader._around  # noqa: SLF001
    for size in range(5_000):
        assert reader.read(message(("content-length", b"%d" % size), ("x-api-key", KEY.encode()))).has_body is (
            size > 0
        )
    assert 0 < len(reader._around) <= 4_096  # noqa: SLF001
    assert KEY not in repr(reader._around)  # noqa: SLF001
