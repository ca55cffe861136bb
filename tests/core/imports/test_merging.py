"""What an import adds to a policy, and what it refuses to add."""

from dataclasses import replace

from support.builders import policy

from authz.core.imports.merging import changed_rows, coverage, merge
from authz.core.imports.operation import Description, Operation, Security
from authz.core.imports.rows import Imported, imported
from authz.core.imports.scopes import ScopeBy
from authz.core.policy.router import Router

PROTECTED = Security.REQUIRED


def described(*operations: Operation) -> Imported:
    return imported(Description("", operations), ScopeBy.TAG)


def test_a_public_row_beside_a_row_of_the_policy_is_not_added() -> None:
    found = merge(policy(), described(Operation("GET", "/v1/servers/mine", Security.NONE)))
    assert found.rows == []
    assert [(row.match, "decides on a part" in reason) for row, reason in found.refused] == [
        ("GET /v1/servers/mine", True)
    ]


def test_a_protected_row_beside_a_row_of_the_policy_is_added_with_a_remark() -> None:
    (row,) = merge(policy(), described(Operation("GET", "/v1/servers/mine", PROTECTED))).rows
    assert row.remarks == ["beside the row GET /v1/servers/{id} of this policy"]


def test_an_unknown_method_of_the_policy_is_not_added() -> None:
    narrow = replace(policy(), methods=frozenset({"GET"}))
    found = merge(narrow, described(Operation("PUT", "/v1/new", PROTECTED)))
    assert [reason for _, reason in found.refused] == ["PUT is not among the policy's methods"]


def test_only_equal_routes_are_complete_coverage() -> None:
    base = policy()
    operations = [Operation(it.method, it.template, PROTECTED, is_template=True) for it in base.routes]
    operations = [it for it in operations if it.method != "*"]
    assert not coverage(base, described(*operations)).missing
    assert not coverage(base, described()).is_complete


def test_rows_that_decide_differently_are_found() -> None:
    base = policy()
    first, *others = base.routes
    assert changed_rows(base, base, described()) == []
    fewer = replace(base, routes=tuple(others), router=Router(others))
    assert first in changed_rows(base, fewer, described())
