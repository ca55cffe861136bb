"""Keys in several forms: a header that occurs twice holds no key, and is not decoded."""

from pathlib import Path

import pytest
from support.builders import FORMAT

from authz._pb.base_pb2 import HeaderMap, HeaderValue
from authz._pb.check_pb2 import CheckRequest
from authz.adapters.policy_file.loader import load_policy
from authz.core.check import Deny
from authz.core.decision import plan
from authz.core.errors import DenyReason
from authz.edge.check.readers import reader_of

POLICY = load_policy(Path(__file__).parents[2] / "data" / "grammar2.yaml")
REPEATED = 511


def message(name: str, value: bytes, count: int) -> CheckRequest:
    sent = CheckRequest()
    http = sent.attributes.request.http
    http.method, http.path = "GET", "/v1/whoami"
    headers = [HeaderValue(key=name, raw_value=value)] * count
    http.header_map = HeaderMap(headers=headers).SerializeToString()
    return sent


@pytest.mark.parametrize("value", [FORMAT.mint(bytes(32)).encode(), b"Basic " + b"QUJD" * 200, b"Bearer " + b"a" * 900])
@pytest.mark.parametrize("name", POLICY.keys.headers)
def test_a_repeated_header_holds_no_key(name: str, value: bytes) -> None:
    reader = reader_of(POLICY)
    attributes = reader.read(message(name, value, REPEATED))
    assert set(attributes.api_keys) == {b""}
    planned = plan(POLICY, attributes)
    assert isinstance(planned, Deny)
    assert planned.reason is DenyReason.KEY_REPEATED
