"""The responses to generated requests, held against the OpenAPI description; for longer: `make fuzz-portal`."""

import pytest
from support.clients.openapi_fuzzer import OpenApiFuzzer

from authz.demo.stack import Stack

SEED, EXAMPLES = 7, 8


@pytest.mark.timeout(300, func_only=True)  # hundreds of requests, one after another
def test_no_request_gets_a_status_or_body_that_is_not_described(portal_stack: Stack) -> None:
    fuzzer = OpenApiFuzzer(portal_stack.url, SEED)
    for operation in fuzzer.operations:
        fuzzer.run(operation, EXAMPLES)
    assert fuzzer.outcomes.failures == []
    assert len(fuzzer.outcomes.statuses) == len(fuzzer.operations) >= 20
    seen = set[int]().union(*fuzzer.outcomes.statuses.values())
    assert {200, 204, 400, 401, 403} <= seen
