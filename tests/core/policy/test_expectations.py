"""An expectation that a policy does not meet is reported with the real decision."""

import pytest
from support.builders import policy

from authz.core.policy.expectations import Expectation, mismatches, uncovered
from authz.core.policy.route import Access, Route
from authz.core.policy.simulation import Caller

WHERE = ("expectations", 0)
READER = Caller(frozenset({"servers:read"}))


def expecting(
    method: str, target: str, *, needs: str = "", outcome: str = "", caller: Caller | None = None
) -> Expectation:
    return Expectation(WHERE, method, target, needs, outcome, caller)


@pytest.mark.parametrize(
    "expectation",
    [
        expecting("GET", "/v1/servers/s1", needs="servers:read"),
        expecting("GET", "/v1/admin/x", needs="barred"),
        expecting("GET", "/v1/servers/s1", outcome="allow", caller=READER),
        expecting("GET", "/v1/servers/s1", outcome="401"),
        expecting("GET", "/v1/servers/s1", outcome="key_missing"),
        expecting("POST", "/v1/servers/s1:start", outcome="403", caller=READER),
        expecting("POST", "/v1/servers/s1:start", outcome="scope_missing", caller=READER),
    ],
)
def test_what_is_met_is_no_surprise(expectation: Expectation) -> None:
    assert mismatches(policy(), [expectation]) == []


@pytest.mark.parametrize(
    ("expectation", "found"),
    [
        (expecting("GET", "/v1/servers/s1", needs="any"), "needs servers:read"),
        (expecting("GET", "/v1/shadowed", needs="servers:read"), "needs public"),
        (expecting("GET", "/v1/servers/s1", outcome="allow"), "401 key_missing"),
        (expecting("GET", "/v1/servers/s1", outcome="403", caller=READER), "allow"),
        (expecting("GET", "/v1/nowhere", outcome="405", caller=READER), "404 route_unknown"),
    ],
)
def test_what_is_not_met_is(expectation: Expectation, found: str) -> None:
    (mismatch,) = mismatches(policy(), [expectation])
    assert (mismatch.expectation, mismatch.found) == (expectation, found)


def test_rows_that_no_expectation_reaches_are_named() -> None:
    rows = (Route("GET", "/a", Access.ANY), Route("GET", "/{x}", Access.ANY), Route("POST", "/a", Access.ANY))
    covered = [expecting("GET", "/a", needs="any"), expecting("GET", "/a//b", needs="path_not_canonical")]
    assert uncovered(policy(*rows), covered) == [rows[1], rows[2]]
