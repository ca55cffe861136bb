"""Rows are found by path, barred ones first, at a cost that does not grow with the table."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.path import parse
from authz.core.route import Access, AccountBinding, BindingPlace, Route
from authz.core.router import Match, Router


def router(*rows: str, barred: tuple[str, ...] = ()) -> Router:
    pairs = [row.split(" ") for row in rows]
    routes = [Route(method, template, Access.ANY) for method, template in pairs]
    return Router([*routes, *(Route("*", template, Access.BARRED) for template in barred)])


def found(table: Router, method: str, path: str) -> str | None:
    target = parse(path)
    assert target is not None
    match = table.match(method, target)
    return None if match is None or match.route is None else match.route.template


def test_the_more_specific_row_wins_whatever_the_order() -> None:
    rows = ("GET /a/**", "GET /a/{x}", "GET /a/b", "GET /a/{x}/c", "GET /a/b/**")
    for table in (router(*rows), router(*reversed(rows))):
        assert found(table, "GET", "/a/b") == "/a/b"
        assert found(table, "GET", "/a/z") == "/a/{x}"
        assert found(table, "GET", "/a/z/c") == "/a/{x}/c"
        assert found(table, "GET", "/a/b/c") == "/a/b/**"
        assert found(table, "GET", "/a/z/d") == "/a/**"
        assert found(table, "GET", "/a") == "/a/**"
        assert found(table, "GET", "/a/") == "/a/**"


def test_a_variable_is_one_segment_that_is_not_empty() -> None:
    table = router("GET /a/{x}")
    assert found(table, "GET", "/a/") is None
    assert found(table, "GET", "/a/b/c") is None


def test_a_colon_in_the_last_segment_is_always_a_custom_verb() -> None:
    table = router("GET /a/{x}", "POST /a/{x}:go")
    assert found(table, "POST", "/a/1:go") == "/a/{x}:go"
    assert found(table, "POST", "/a/1:2:go") == "/a/{x}:go"
    for path in ("/a/1:stay", "/a/1:", "/a/:go", "/a/1:go:"):
        assert found(table, "GET", path) is None
        assert found(table, "POST", path) is None


def test_an_encoded_colon_is_part_of_an_id_unless_it_would_make_a_verb() -> None:
    table = router("GET /a/{x}", "POST /a/{x}:go", "GET /a/{x}/b")
    assert found(table, "GET", "/a/1%3A2") == "/a/{x}"
    assert found(table, "GET", "/a/1%3Ago/b") == "/a/{x}/b"
    for method in ("GET", "POST", "DELETE"):
        target = parse("/a/1%3Ago")
        assert target is not None
        assert table.match(method, target) is None


def test_an_encoded_literal_is_no_way_around_a_row() -> None:
    table = router("GET /a/{x}", barred=("/a/secret/**",))
    target = parse("/a/s%65cret")
    assert target is not None
    assert table.match("GET", target) is None


def test_nothing_unlocks_a_barred_row() -> None:
    table = router("GET /a/b/c", "POST /a/b/c:go", "GET /a/{x}/c", barred=("/a/b/**",))
    for method, path in (("GET", "/a/b/c"), ("POST", "/a/b/c:go"), ("PATCH", "/a/b"), ("GET", "/a/b/c:nothing")):
        assert found(table, method, path) == "/a/b/**"
    assert found(table, "GET", "/a/z/c") == "/a/{x}/c"


def test_a_grpc_package_covers_its_services_and_those_below_it() -> None:
    table = router("POST /p.v1.Open/Call", barred=("/p.admin.**",))
    assert found(table, "POST", "/p.v1.Open/Call") == "/p.v1.Open/Call"
    for path in ("/p.admin.Keys/Drop", "/p.admin.v1.Keys/Drop", "/p.admin.Keys", "/p.admin.Keys/Drop:x"):
        assert found(table, "POST", path) == "/p.admin.**"
    for path in ("/p.administrator.Keys/Drop", "/p.admin/Drop", "/x.p.admin.Keys/Drop"):
        assert found(table, "POST", path) is None


def test_a_known_path_lists_its_methods() -> None:
    table = router("POST /a", "GET /a", "* /b")
    target = parse("/a")
    assert target is not None
    assert table.match("PUT", target) == Match(None, ("GET", "POST"))
    assert found(table, "PUT", "/b") == "/b"


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("/a/{x}/b", "/a/1%3A2/b", {"x": "1:2"}),
        ("/a/{x}:go", "/a/1:go", {"x": "1"}),
        ("/a/{x=**}", "/a/1/2/3", {"x": "1/2/3"}),
        ("/a/{x=b/*/c/*}", "/a/b/1/c/2", {"x": "b/1/c/2"}),
        ("/a/{x}/{y}", "/a/1/2", {"x": "1", "y": "2"}),
    ],
)
def test_variables_are_read_where_a_route_needs_them(template: str, path: str, expected: dict[str, str]) -> None:
    bound = Route("GET", template, Access.ANY, accounts=(AccountBinding(BindingPlace.PATH, "x"),))
    target = parse(path)
    assert target is not None
    match = Router([bound]).match("GET", target)
    assert match is not None
    assert match.variables == expected


def slowly_matched(rows: list[str], path: str) -> set[str]:
    """All rows that match, by the definition: part by part."""
    segments = path[1:].split("/")

    def fits(template: str) -> bool:
        parts = template[1:].split("/")
        if parts[-1] == "**":
            parts, rest = parts[:-1], segments[: len(parts) - 1]
            return len(rest) == len(parts) and all(
                part in {"*", segment} for part, segment in zip(parts, rest, strict=True)
            )
        return len(parts) == len(segments) and all(
            part in {"*", segment} for part, segment in zip(parts, segments, strict=True)
        )

    return {template for template in rows if fits(template)}


PARTS = st.lists(st.sampled_from(["a", "b", "c", "*"]), min_size=1, max_size=4)
TEMPLATES = st.tuples(PARTS, st.booleans()).map(lambda it: "/" + "/".join([*it[0], *(["**"] if it[1] else [])]))


@given(st.lists(TEMPLATES, unique=True, max_size=12), st.lists(st.sampled_from("abcd"), min_size=1, max_size=5))
def test_the_tree_finds_a_row_exactly_when_one_matches(templates: list[str], segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    matching = slowly_matched(templates, path)
    seen = found(router(*(f"GET {template}" for template in templates)), "GET", path)
    assert seen in matching if matching else seen is None


@pytest.mark.timed
def test_ten_thousand_rows_match_as_fast_as_ten() -> None:
    def table(count: int) -> Router:
        return router(*(f"GET /v1/kind{number}/{{id}}/part" for number in range(count)))

    target = parse("/v1/kind7/some-id/part")
    assert target is not None
    tables = {count: table(count) for count in (10, 10_000)}
    best = dict.fromkeys(tables, float("inf"))
    for _ in range(30):  # alternating, and the best of many: other work on the machine only ever adds
        for count, built in tables.items():
            started = time.perf_counter()
            for _ in range(1000):
                built.match("GET", target)
            best[count] = min(best[count], time.perf_counter() - started)
    assert best[10_000] / best[10] <= 1.2
