"""Responses of several calls: a fault in one of them changes that one only, and none becomes an allow."""

import pytest
from support.builders import KEY, ROUTES, policy, request

from authz._pb.check_pb2 import CheckResponse
from authz.core.check import Allow, Decision, Deny, RequestAttributes
from authz.core.errors import DenyReason, GrpcCode
from authz.edge.check.messages import write_all
from authz.edge.check.responses import ResponseWriter
from authz.service.ports import Decided


class _Faulty(ResponseWriter):
    def write(self, attributes: RequestAttributes, decision: Decision) -> bytes:
        if attributes.target == "/fault" and isinstance(decision, Allow):
            raise ValueError("no response for this one")
        return super().write(attributes, decision)


def test_a_response_that_cannot_be_serialised_is_an_error_and_leaves_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    allow, deny = Allow(ROUTES[0]), Deny(DenyReason.KEY_MISSING)
    good, fault = request("GET", "/v1/servers", KEY), request("GET", "/fault", KEY)
    decided: list[Decided] = [(1, good, allow), (3, fault, allow), (5, good, deny), (7, fault, allow), (9, good, allow)]
    responses = write_all(_Faulty(policy()), decided)
    assert [call_id for call_id, _ in responses] == [1, 3, 5, 7, 9]
    usual = ResponseWriter(policy())
    written = {call_id: usual.write(attributes, decision) for call_id, attributes, decision in decided}
    for call_id, response in responses:
        if call_id in {3, 7}:
            parsed = CheckResponse.FromString(response)
            assert parsed.status.code == GrpcCode.UNAVAILABLE
            assert parsed.WhichOneof("http_response") == "error_response"
        else:
            assert response == written[call_id]
    assert [record.getMessage() for record in caplog.records] == ["a check response cannot be serialised"] * 2
