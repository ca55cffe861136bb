"""What an OpenAPI document of each version says about its operations."""

from typing import Any

import pytest
from support.apis import random_api
from support.import_checks import check_import, check_merge

from authz.adapters.api_files.openapi import described
from authz.adapters.api_files.servers import BASES_MAX
from authz.core.errors import PolicyError
from authz.core.imports.operation import Operation, Security
from authz.core.imports.rows import imported
from authz.core.imports.scopes import ScopeBy

EXAMPLES = 100


def three(paths: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- any part of a document
    return {"openapi": "3.1.0", "info": {"title": "T"}, "paths": paths, **more}


def only(document: dict[str, Any]) -> Operation:
    (found,) = described(document).operations
    return found


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (three({"/a": {"get": {}}}, servers=[{"url": "https://h.example/v1/"}]), "/v1/a"),
        (three({"/a": {"get": {}}}, servers=[{"url": "/v2"}]), "/v2/a"),
        (three({"/a": {"get": {}}}, servers=[{"url": "v3"}]), "/v3/a"),
        (three({"/a": {"get": {}}}, servers=[{"url": "//h/{v}", "variables": {"v": {"default": "v4"}}}]), "/v4/a"),
        (three({"/a": {"get": {}, "servers": [{"url": "/own"}]}}, servers=[{"url": "/v1"}]), "/own/a"),
        (three({"/a": {"get": {"servers": [{"url": "/op"}]}}}, servers=[{"url": "/v1"}]), "/op/a"),
        (three({"/a": {"get": {}}}), "/a"),
        ({"swagger": "2.0", "basePath": "/v2/", "paths": {"/a": {"get": {}}}}, "/v2/a"),
        ({"swagger": "2.0", "basePath": "/", "paths": {"/a": {"get": {}}}}, "/a"),
    ],
)
def test_the_base_path_is_that_of_the_nearest_server(document: dict[str, Any], path: str) -> None:
    assert only(document).path == path


def servers(*urls: str, **variables: Any) -> list[dict[str, Any]]:  # noqa: ANN401 -- any part of a document
    return [{"url": url, "variables": variables} for url in urls]


@pytest.mark.parametrize(
    ("listed", "bases"),
    [
        (servers("/v1", "https://x/sandbox/", "https://y/v1"), ["/v1", "/sandbox"]),
        (servers("https://x/", "v3", "./v4", "../v5", "/a/../v6/."), ["", "/v3", "/v4", "/v5", "/v6"]),
        (servers("https://x/{v}", v={"default": "v2", "enum": ["v1", "v2", "v3"]}), ["/v2", "/v1", "/v3"]),
        (servers("/{v}/{w}", v={"enum": ["a", "b"]}, w={"enum": ["c", "d"]}), ["/a/c", "/a/d", "/b/c", "/b/d"]),
        (servers("/{v}", v={"default": "v9"}), ["/v9"]),
        (servers("/{v}"), ["/{v}"]),
        (servers("{s}://{h}/v1", s={"enum": ["http", "https"]}, h={"enum": ["a", "b"]}), ["/v1"]),
        (servers("{root}/v1", root={"default": "https://x/y", "enum": ["https://x/y", "https://z"]}), ["/y/v1", "/v1"]),
        (servers("https://x/{v}", v={"default": 1, "enum": [True, None, "v1"]}), ["/v1"]),
        ([None, {"url": 1}, {"url": "/v1"}], ["/v1"]),
        ([{"url": 1}], [""]),
        ([], [""]),
        (None, [""]),
    ],
)
def test_an_operation_has_the_base_paths_of_all_servers(listed: Any, bases: list[str]) -> None:  # noqa: ANN401
    document = three({"/a": {"get": {}}}, servers=listed)
    assert [it.path for it in described(document).operations] == [f"{base}/a" for base in bases]
    assert described(document, "/mine/").operations[0].path == "/mine/a"
    # The servers of a path and of an operation replace those of the document, unless there are none.
    outer = servers("/outer")
    for item in ({"get": {}, "servers": listed}, {"get": {"servers": listed}}):
        expected = [f"{base}/a" for base in (bases if listed else ["/outer"])]
        assert [it.path for it in described(three({"/a": item}, servers=outer)).operations] == expected


def test_what_is_special_about_servers_is_noted() -> None:
    document = three({"/a": {"get": {"servers": servers("https://other/x")}}}, servers=servers("https://h/v1", "/s"))
    assert described(document).doubts == ("the servers have the base paths /v1, /s: each operation has a row for each",)
    assert described(document).host == "h"
    assert only(document).doubts == ("another host in the description: other",)
    assert described(document, "/mine").doubts == ()
    free = described(three({}, servers=servers("https://h/{v}", v={"default": "v9"})))
    assert free.doubts == ("the base path of https://h/{v} depends on variables: rows have /v9",)


def test_the_base_paths_of_servers_are_bounded() -> None:
    many = [str(number) for number in range(200)]
    listed = servers("/{a}/{b}/{c}", a={"enum": many}, b={"enum": many}, c={"enum": many})
    found = described(three({"/a": {"get": {}}}, servers=listed * 100))
    assert len(found.operations) == BASES_MAX
    assert "more than 20 base paths" in found.doubts[0]


def test_operations_of_all_base_paths_share_their_scopes() -> None:
    document = three({"/pets": {"get": {}}}, servers=servers("/v1", "/sandbox"))
    assert {row.scope for row in imported(described(document), ScopeBy.TAG).rows} == {"pets:read"}


@pytest.mark.parametrize(
    ("root", "own", "expected"),
    [
        ({}, {}, Security.UNDECLARED),
        ({"security": []}, {}, Security.NONE),
        ({"security": [{"k": []}]}, {}, Security.REQUIRED),
        ({"security": [{"k": []}]}, {"security": []}, Security.NONE),
        ({"security": []}, {"security": [{"k": []}]}, Security.REQUIRED),
        ({}, {"security": [{}]}, Security.OPTIONAL),
        ({}, {"security": [{"k": []}, {}]}, Security.OPTIONAL),
        ({"security": []}, {"security": None}, Security.UNREADABLE),
        ({"security": []}, {"security": {}}, Security.UNREADABLE),
        ({"security": []}, {"security": [None]}, Security.UNREADABLE),
        ({"security": ""}, {}, Security.UNREADABLE),
    ],
)
def test_security_is_empty_only_as_an_empty_list(root: Any, own: Any, expected: Security) -> None:  # noqa: ANN401
    assert only(three({"/a": {"get": own}}, **root)).security is expected


def test_references_within_the_document_are_followed() -> None:
    document = three(
        {"/a": {"$ref": "#/components/pathItems/A~1b"}},
        components={
            "pathItems": {"A/b": {"get": {"parameters": [{"$ref": "#/components/parameters/p"}], "security": []}}},
            "parameters": {"p": {"$ref": "#/components/parameters/q"}, "q": {"in": "query", "name": "account"}},
        },
    )
    assert only(document).parameters == (("query", "account"),)
    assert only(document).security is Security.NONE


@pytest.mark.parametrize("reference", ["other.yaml#/a", "http://x/y", "#/nowhere", "#/paths/~1a", 7, None])
def test_a_path_that_refers_elsewhere_is_noted_and_has_no_rows(reference: object) -> None:
    found = described(three({"/a": {"$ref": reference}}))
    assert found.operations == ()
    assert found.doubts == ("the path /a cannot be read, so it has no rows",)


def test_an_operation_that_cannot_be_read_is_protected() -> None:
    assert only(three({"/a": {"get": None}}, security=[])).security is Security.UNREADABLE


def test_the_rest_of_an_operation_is_read() -> None:
    schema: dict[str, Any] = {"schema": {"properties": {"account_id": {}}}}
    found = only(
        three(
            {
                "/a/{id}": {
                    "parameters": [{"in": "path", "name": "id"}],
                    "post": {
                        "tags": ["t", 7],
                        "deprecated": True,
                        "requestBody": {"content": {"application/json": schema}},
                        "responses": {200: {"content": {"text/event-stream; charset=utf-8": {}}}},
                        "x-authz": {"scope": "x:y"},
                    },
                }
            }
        )
    )
    assert (found.tags, found.is_deprecated, found.is_write) == (("t",), True, True)
    assert found.parameters == (("path", "id"), ("body", "account_id"))
    assert found.wish is not None
    assert found.wish.scope == "x:y"


def test_streams_are_seen_in_each_version() -> None:
    two = {
        "swagger": "2.0",
        "produces": ["application/json"],
        "paths": {"/a": {"get": {"produces": ["text/event-stream"]}}},
    }
    assert only(two).streams
    content: dict[str, Any] = {"content": {"text/event-stream": {}}}
    assert only(three({"/a": {"get": {"responses": {"200": content}}}})).streams


def test_the_header_of_keys_is_taken_from_a_scheme() -> None:
    schemes = {"b": {"type": "http"}, "k": {"type": "apiKey", "in": "header", "name": "X-Acme-Key"}}
    assert described(three({}, components={"securitySchemes": schemes})).header == "x-acme-key"
    schemes["k"]["name"] = "Authorization"
    assert described(three({}, components={"securitySchemes": schemes})).header == ""


@pytest.mark.parametrize("document", [None, [], "x", {}, {"openapi": "3.2.0"}, {"openapi": 3}, {"swagger": "1.2"}])
def test_what_is_no_openapi_document_is_refused(document: object) -> None:
    with pytest.raises(PolicyError, match=r"no OpenAPI document|the version"):
        described(document)


def test_the_number_of_operations_is_bounded() -> None:
    paths: dict[str, Any] = {f"/{number}": {"get": {}} for number in range(20_001)}
    with pytest.raises(PolicyError, match="more than 20000 operations"):
        described(three(paths))


@pytest.mark.parametrize("by", ScopeBy)
def test_no_random_document_opens_what_its_security_protects(by: ScopeBy) -> None:
    texts = []
    for seed in range(EXAMPLES):
        try:
            texts.append(check_import(random_api(seed, oddness=0.02), by))
        except PolicyError:
            continue
    assert sum(map(bool, texts)) > EXAMPLES / 2
    assert any("access: public" in text for text in texts)


def test_no_addition_changes_what_a_policy_has() -> None:
    added = 0
    for seed in range(EXAMPLES):
        try:
            text = check_import(random_api(seed, oddness=0.02), ScopeBy.TAG)
            added += bool(text) and check_merge(text, random_api(seed + EXAMPLES, oddness=0.02), ScopeBy.TAG) != text
        except PolicyError:
            continue
    assert added > EXAMPLES / 4
