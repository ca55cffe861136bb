"""A check request that shows a setting which Envoy lacks is counted, and logged once for each kind."""

import logging
from collections.abc import Iterator

import pytest
from support.builders import KEY, KEYS

from authz._pb.base_pb2 import HeaderMap, HeaderValue
from authz._pb.check_pb2 import CheckRequest
from authz.edge.check import gaps
from authz.edge.check.attributes import AttributesReader
from authz.edge.check.gaps import EnvoyGap


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    gaps.seen.update({name: -count for name, count in gaps.seen.items()})
    yield
    gaps.seen.update({name: -count for name, count in gaps.seen.items()})


def read(*names: str, raw: bool = True, body: str = "") -> dict[str, int]:
    """Read a request with a key and some headers twice; returns what was counted."""
    sent = CheckRequest()
    http = sent.attributes.request.http
    http.id, http.method, http.path, http.body = "1", "POST", "/v1/servers", body
    headers = {"x-api-key": KEY, **dict.fromkeys(names, "acct_forged")}
    if raw:
        fields = [HeaderValue(key=name, raw_value=value.encode()) for name, value in headers.items()]
        http.header_map = HeaderMap(headers=fields).SerializeToString()
    else:
        http.headers.update(headers)
    reader = AttributesReader(KEYS)
    for _ in range(2):
        reader.read(CheckRequest.FromString(sent.SerializeToString()))
    return {name: count for name, count in gaps.seen.items() if count}


def test_a_request_of_a_complete_configuration_shows_none() -> None:
    assert read() == {}
    assert read("content-type", "content-length", "x-request-id", "user-agent", "x-auth", "x-bpi-key") == {}


@pytest.mark.parametrize(
    ("names", "gap"),
    [
        (["x-authz-account-id"], EnvoyGap.IDENTITY_HEADER),
        (["x-authz-account-id", "x-authz-scopes"], EnvoyGap.IDENTITY_HEADER),
        (["x_authz_account_id"], EnvoyGap.HEADER_ALIAS),
        (["x-authz-scopes", "x_api_key"], EnvoyGap.HEADER_ALIAS),
        (["x.authz.scopes"], EnvoyGap.HEADER_ALIAS),
        (["x-envoy-auth-partial-body"], EnvoyGap.BODY_PARTIAL),
    ],
)
def test_headers_show_what_envoy_does_not_remove(names: list[str], gap: EnvoyGap) -> None:
    found = read(*names)
    assert set(found) == {gap.value}
    assert found[gap.value] >= 1


def test_the_form_of_headers_and_bodies_shows_missing_settings() -> None:
    assert read(raw=False) == {EnvoyGap.RAW_HEADERS.value: 2}
    assert read(body="{}")[EnvoyGap.BODY_TEXT.value] == 2


def test_each_kind_is_logged_once_without_any_value(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            read("x-authz-scopes", raw=False)
            read("x_authz_scopes")
    assert [record.__dict__["gap"] for record in caplog.records] == ["raw_headers", "identity_header", "header_alias"]
    assert all("authz envoy check" in record.getMessage() for record in caplog.records)
    assert "acct_forged" not in caplog.text
    assert KEY not in caplog.text
