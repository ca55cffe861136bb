"""What grammar 2 adds to the table, against a simple reference: nothing barred becomes open, nothing else changes."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import policy as built

from authz.core.check import Allow, Deny
from authz.core.errors import DenyReason
from authz.core.policy.diff import compare
from authz.core.policy.path import parse
from authz.core.policy.policy import Policy, Scope
from authz.core.policy.route import Access, Route
from authz.core.policy.router import Router
from authz.core.policy.rules import method_and_template
from authz.core.policy.simulation import Caller, decide, need

WORDS = ("a", "b", "{x-y}", "**")
SEGMENTS = ("a", "b", "c", "")


def is_match(template: str, path: str) -> bool:
    """Match one template as its definition says, without an index."""
    parts, segments = template[1:].split("/"), path[1:].split("/")
    if parts[-1] == "**":
        parts = parts[:-1]
        segments = segments[: len(parts)] if len(segments) >= len(parts) else segments
    return len(parts) == len(segments) and all(
        segment and (part == segment or part.startswith("{")) for part, segment in zip(parts, segments, strict=True)
    )


def found(router: Router, path: str) -> Route | None:
    target = parse(path)
    match = router.match("GET", target) if target else None
    return match.route if match else None


def template_of(words: list[str]) -> str:
    inner = [word.replace("x-y", f"x-{number}") for number, word in enumerate(words) if word != "**"]
    return "/" + "/".join([*inner, "**"] if words[-1] == "**" else inner or ["a"])


templates = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(template_of)


@given(
    rows=st.lists(templates, max_size=5, unique=True),
    barred=st.lists(templates, max_size=3, unique=True),
    base=st.sampled_from(["", "/api", "/api/v3"]),
    same=st.booleans(),
)
def test_a_base_path_and_slashes_open_nothing_that_is_barred(
    rows: list[str],
    barred: list[str],
    base: str,
    same: bool,  # noqa: FBT001
) -> None:
    routes = [Route("GET", base + row, Access.PUBLIC) for row in rows]
    routes += [Route("*", base + row, Access.BARRED) for row in barred]
    router = Router(routes, ignores_slash=same)
    for length in (1, 2, 3):
        for segments in product(SEGMENTS, repeat=length):
            path = base + "/" + "/".join(segments)
            if "//" in path:
                continue
            route = found(router, path)
            if any(is_match(base + row, path.rstrip("/")) for row in barred):
                assert route is None or route.access is Access.BARRED, path
            elif route is not None:
                bare = path.rstrip("/") if same or route.template.endswith("**") else path
                assert is_match(route.template, bare), path
            elif same and path.endswith("/") and len(segments) > 1:
                assert found(router, path.rstrip("/")) is None, path


def test_a_path_with_a_slash_has_the_row_without_it() -> None:
    routes = [Route("GET", "/a/{x}", Access.PUBLIC), Route("POST", "/a/{x}:go", Access.PUBLIC)]
    assert found(Router(routes), "/a/1/") is None
    assert found(Router(routes, ignores_slash=True), "/a/1/") is routes[0]
    assert found(Router(routes, ignores_slash=True), "/a/1:go/") is None
    assert found(Router(routes, ignores_slash=True), "/a/") is None
    narrow = Route("GET", "/b/c", Access.PUBLIC)
    wide = Route("GET", "/b/**", Access.ANY)
    assert found(Router([wide, narrow], ignores_slash=True), "/b/c/") is narrow


def test_a_base_path_begins_every_row_but_those_of_grpc() -> None:
    assert method_and_template("GET /a", Access.ANY, "/api") == ("GET", "/api/a")
    assert method_and_template("GET /", Access.ANY, "/api") == ("GET", "/api")
    assert method_and_template("/shop.Orders/List", Access.ANY, "/api") == ("POST", "/shop.Orders/List")


A, B, C = "orders:read", "orders:write", "billing:read"


def needing(*scopes: tuple[str, ...], access: Access = Access.SCOPE) -> Policy:
    text = " or ".join(" and ".join(it) for it in scopes)
    declared = {name: Scope(name, name) for name in (A, B, C)}
    return replace(built(Route("GET", "/a", access, text, scopes=scopes)), scopes=declared)


@pytest.mark.parametrize(
    ("scopes", "held", "is_allowed"),
    [
        (((A, B),), {A, B}, True),
        (((A, B),), {A, B, C}, True),
        (((A, B),), {A}, False),
        (((A, B),), set(), False),
        (((A,), (B,)), {B}, True),
        (((A,), (B,)), {C}, False),
    ],
)
def test_several_scopes_suffice_together_or_each(
    scopes: tuple[tuple[str, ...], ...],
    held: set[str],
    is_allowed: bool,  # noqa: FBT001
) -> None:
    decision = decide(needing(*scopes), "GET", "/a", Caller(frozenset(held)))
    assert isinstance(decision, Allow) == is_allowed
    if isinstance(decision, Deny):
        assert decision.reason is DenyReason.SCOPE_MISSING


def test_a_comparison_knows_sets_of_scopes() -> None:
    assert need(needing((A, B)), "GET", "/a") == f"{A} and {B}"
    assert need(needing((A,), (B,)), "GET", "/a") == f"{A} or {B}"
    assert need(needing(access=Access.OPTIONAL), "GET", "/a") == "optional"
    for old, new, opens, closes in (
        (needing((A, B)), needing((A, C)), (f"{A} and {C}",), (f"{A} and {B}",)),
        (needing((A,), (B,)), needing((A, B)), (), (A, B)),
        (needing((A, B)), needing((B,)), (B,), ()),
    ):
        (change,) = compare(old, new).changes
        assert set(opens) <= set(change.opens)
        assert set(closes) <= set(change.closes)
        assert bool(change.opens) == bool(opens)
    (change,) = compare(needing(access=Access.PUBLIC), needing(access=Access.OPTIONAL)).changes
    assert change.alters == ("access: public → optional",)


def test_a_comparison_knows_what_a_slash_opens() -> None:
    old = built(Route("GET", "/a", Access.PUBLIC))
    new = replace(old, router=Router(old.routes, ignores_slash=True))
    (change,) = compare(old, new).changes
    assert change.opens
    assert set(change.requests) == {"/a/"}
