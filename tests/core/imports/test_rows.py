"""Rows of operations: what becomes public, what shares a row, and what scopes there are."""

import pytest

from authz.core.imports.operation import Description, Operation, Security, Wish
from authz.core.imports.rows import ImportedRow, imported
from authz.core.imports.scopes import ScopeBy

NONE = Security.NONE


def rows(*operations: Operation, by: ScopeBy = ScopeBy.TAG) -> dict[str, ImportedRow]:
    return {row.match: row for row in imported(Description("", operations), by).rows}


def test_only_an_empty_security_makes_a_row_public() -> None:
    for security in Security:
        found = rows(Operation("GET", "/a", security, tags=("t",)))["GET /a"]
        assert found.scope == ("" if security is NONE else "t:read")


@pytest.mark.parametrize("path", ["/{a}.json", "/a/", "/{a}...{b}", "/{rest+}"])
def test_a_widened_row_is_never_public(path: str) -> None:
    (found,) = rows(Operation("GET", path, NONE)).values()
    assert found.scope
    assert any("public in the description" in remark for remark in found.remarks)


def test_a_public_row_that_shares_requests_with_a_protected_one_is_not_public() -> None:
    found = rows(Operation("GET", "/{kind}/list", Security.REQUIRED), Operation("GET", "/files/{id}", NONE))
    assert found["GET /files/{id}"].scope


@pytest.mark.parametrize(
    "protected",
    [
        Operation("GET", "/{kind}/{id}", Security.REQUIRED),  # public is its exception
        Operation("GET", "/files/mine", Security.REQUIRED),  # it is the exception of public
        Operation("POST", "/{kind}/list", Security.REQUIRED),
        Operation("GET", "/files/{id}:start", Security.REQUIRED),
    ],
)
def test_a_public_row_stays_public_beside_rows_that_are_told_apart(protected: Operation) -> None:
    assert not rows(protected, Operation("GET", "/files/{id}", NONE))["GET /files/{id}"].scope


def test_a_public_row_with_a_variable_is_not_public_below_a_protected_row_that_was_widened() -> None:
    protected = Operation("GET", "/files/{path+}", Security.REQUIRED)
    found = rows(protected, Operation("GET", "/files/{id}", NONE), Operation("GET", "/files/terms", NONE))
    assert found["GET /files/{id}"].scope
    assert not found["GET /files/terms"].scope


def test_two_operations_of_one_row_need_what_the_stricter_one_needs() -> None:
    found = rows(Operation("GET", "/{a}", NONE), Operation("GET", "/{b}", Security.REQUIRED, tags=("t",)))
    assert list(found) == ["GET /{a}"]
    assert found["GET /{a}"].scope == "t:read"
    assert "also GET /{b}" in found["GET /{a}"].remarks


def test_x_authz_cannot_open_what_the_security_protects() -> None:
    for access in ("public", "session", "any", "nonsense"):
        operation = Operation("GET", "/a", Security.REQUIRED, tags=("t",), wish=Wish(access=access))
        assert rows(operation, by=ScopeBy.X_AUTHZ)["GET /a"].scope == "t:read"


def test_x_authz_closes_what_the_security_leaves_open() -> None:
    for access in ("session", "any", "barred"):
        assert rows(Operation("GET", "/a", NONE, tags=("t",), wish=Wish(access=access)))["GET /a"].scope


def test_different_sources_never_share_a_scope() -> None:
    tags = ("Pets", "pets", "PETS", "pêts", "pets!", "ä", "ö", "", "api", "日本")
    operations = [Operation("GET", f"/{number}", tags=(tag,)) for number, tag in enumerate(tags)]
    assert len({row.scope for row in rows(*operations).values()}) == len(tags)
    needed = [(("a", "b"),), (("a-and-b",),), (("A", "B"),), (("b", "a"),), (("api:read",),), ((),)]
    operations = [Operation("GET", f"/{number}", Security.REQUIRED, it) for number, it in enumerate(needed)]
    assert len({row.scope for row in rows(*operations, by=ScopeBy.SECURITY).values()}) == len(needed)


def test_a_row_that_needs_several_scopes_gets_one_of_its_own() -> None:
    both = Operation("POST", "/a", Security.REQUIRED, (("write:pets", "read:pets"),))
    one = Operation("GET", "/b", Security.REQUIRED, (("read:pets",),))
    found = rows(both, one, by=ScopeBy.SECURITY)
    assert found["GET /b"].scope == "read:pets"
    assert found["POST /a"].scope == "write-pets-and-read-pets"


def test_methods_make_scopes_and_mark_those_that_write() -> None:
    found = imported(Description("", (Operation("GET", "/a"), Operation("POST", "/a"))), ScopeBy.METHOD)
    assert {name: draft.write for name, draft in found.scopes.items()} == {"api:read": False, "api:write": True}


def test_accounts_and_streams_are_suggestions_only() -> None:
    operation = Operation("GET", "/a/{account_id}", parameters=(("path", "account_id"), ("query", "q")), streams=True)
    (found,) = rows(operation).values()
    assert [remark.split(",")[0] for remark in found.remarks] == [
        "suggestion: stream: CLASS in a group of its own",
        "suggestion: account: path:account_id",
    ]


def test_a_method_that_no_policy_has_is_reported() -> None:
    found = imported(Description("", (Operation("TRACE", "/a"), Operation("GET", "/a"))), ScopeBy.TAG)
    assert [row.match for row in found.rows] == ["GET /a"]
    assert [(it.name, why) for it, why in found.omitted] == [("TRACE /a", "no policy accepts the method TRACE")]


def test_a_binding_of_a_rule_with_an_unknown_method_is_reported() -> None:
    found = imported(Description("", (Operation("TRACE", "/a/{b}", is_template=True),)), ScopeBy.TAG)
    assert [why for _, why in found.omitted] == ["no policy accepts the method TRACE"]


def test_a_get_has_no_body_to_bind() -> None:
    operations = [Operation(method, "/a", parameters=(("body", "account_id"),)) for method in ("GET", "POST")]
    found = rows(*operations)
    assert found["GET /a"].remarks == []
    assert found["POST /a"].remarks == ["suggestion: account: body:account_id, if it is the account of the key"]


def test_a_public_row_beside_a_rest_of_a_rule_is_not_public() -> None:
    rest = Operation("GET", "/v1/{name=**}", is_template=True)
    assert rows(rest, Operation("GET", "/v1/{id}", NONE))["GET /v1/{id}"].scope


def test_a_public_get_does_not_answer_head_in_place_of_a_protected_row() -> None:
    head = Operation("HEAD", "/{rest+}", Security.REQUIRED)
    assert rows(Operation("GET", "/{id}", NONE), head)["GET /{id}"].scope
    assert not rows(Operation("POST", "/{id}", NONE), head)["POST /{id}"].scope
    crossing = Operation("HEAD", "/{kind}/list", Security.REQUIRED)
    assert rows(Operation("GET", "/files/{id}", NONE), crossing)["GET /files/{id}"].scope
    assert not rows(Operation("GET", "/a", NONE), Operation("HEAD", "/a", Security.REQUIRED))["GET /a"].scope
