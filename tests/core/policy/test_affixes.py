"""Last segments with variables and other text: which paths they match, and that they lift no bar."""

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import policy as built

from authz.core.policy.affixes import Affix
from authz.core.policy.diff import compare
from authz.core.policy.path import SEGMENTS_MAX, Target, parse
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, Route
from authz.core.policy.router import Router
from authz.core.policy.template import Template, TemplateError


def table(*rows: str, barred: tuple[str, ...] = ()) -> Router:
    routes = [Route("GET", row, Access.PUBLIC) for row in rows]
    return Router([*routes, *(Route("*", row, Access.BARRED) for row in barred)])


def found(router: Router, path: str) -> str:
    target = parse(path)
    match = router.match("GET", target) if target else None
    if match is None:
        return "refused"
    return match.route.template if match.route else "none"


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("/a/1.json", "/a/{id}.json"),
        ("/a/1.2.json", "/a/{id}.json"),
        ("/a/1.xml", "/a/{id}"),
        ("/a/.json", "/a/{id}"),
        ("/a/x.json", "/a/x.json"),
        ("/a/1%2Ejson", "refused"),
        ("/a/1.%6Ason", "refused"),
        ("/a/1.json:go", "none"),
        ("/a/1.json/", "none"),
        ("/c/main...topic", "/c/{base}...{head}"),
        ("/c/a...b...c", "/c/{base}...{head}"),
        ("/c/main...", "none"),
        ("/c/...topic", "none"),
        ("/c/main..topic", "none"),
        ("/c/v1", "/c/v{n}"),
    ],
)
def test_the_text_decides_between_a_literal_and_a_variable(path: str, row: str) -> None:
    router = table("/a/{id}", "/a/{id}.json", "/a/x.json", "/c/{base}...{head}", "/c/v{n}")
    assert found(router, path) == row


@pytest.mark.parametrize("path", ["/a/1.json", "/a/.json", "/a/1.json:go", "/a/1.json:go:on", "/a/1.json/"])
def test_a_bar_holds_for_every_reading(path: str) -> None:
    router = table("/a/{id}", "/a/**", "/a/{id}...{x}", barred=("/a/{id}.json",))
    assert found(router, path) in {"/a/{id}.json", "refused"}


PARTS = ("{}.json", "{}...{}", "a{}", "{}b", "a{}b")
LETTERS = ("", "a", "b", ".json", "...", "ab")


def is_match(text: str, segment: str) -> bool:
    """Try every way to fill the variables."""
    literals = text.split("{}")
    fillings: list[Callable[[str, str], str]] = [lambda x, _y: literals[0] + x + literals[1]]
    if len(literals) > 2:
        fillings = [lambda x, y: literals[0] + x + literals[1] + y + literals[2]]
    pieces = {segment[start:end] for start in range(len(segment)) for end in range(start + 1, len(segment) + 1)}
    return any(fill(x, y) == segment for fill in fillings for x in pieces for y in pieces)


@given(text=st.sampled_from(PARTS), letters=st.lists(st.sampled_from(LETTERS), max_size=4))
def test_matching_is_that_of_a_reference(text: str, letters: list[str]) -> None:
    segment = "".join(letters)
    assert Affix(text).matches(segment) == is_match(text, segment)
    assert Affix(text, is_barred=True).matches(segment) >= is_match(text, segment)


@given(rows=st.lists(st.sampled_from(PARTS), unique=True, max_size=3), barred=st.sampled_from(PARTS))
def test_no_row_lifts_a_bar(rows: list[str], barred: str) -> None:
    def written(text: str) -> str:
        return "/x/" + text.replace("{}", "{v}", 1).replace("{}", "{w}", 1)

    router = table("/x/{id}", "/x/**", *map(written, rows), barred=(written(barred),))
    for pair in product(LETTERS, repeat=3):
        segment = "".join(pair)
        if segment and is_match(barred, segment):
            assert found(router, f"/x/{segment}") == written(barred)


def test_overlaps_are_known() -> None:
    assert Affix("{}.json").overlaps(Affix("{}.tar.json"))
    assert Affix("a{}").overlaps(Affix("{}b"))
    assert not Affix("{}.json").overlaps(Affix("{}.xml"))
    assert not Affix("a{}").overlaps(Affix("b{}"))


def test_a_long_segment_is_matched_in_linear_time() -> None:
    router = table(*(f"/a/{{x}}{'.' * 3}{number}{{y}}" for number in range(16)))
    segments = ("a", "." * 8_000)
    assert len(segments) < SEGMENTS_MAX
    match = router.match("GET", Target(segments, segments))
    assert match is not None
    assert match.route is None


@pytest.mark.parametrize("text", ["/{a}{b}", "/{a=b/*}.json", "/{a}.{a}", "/a{", "/{a}.json:go", "/{a}*"])
def test_other_mixtures_are_no_templates(text: str) -> None:
    with pytest.raises(TemplateError):
        Template.parse(text)


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("/a/1.json/parts", "/a/{id}.json/parts"),
        ("/a/1.json/other", "/a/{id}/{x}"),
        ("/a/.json/parts", "/a/{id}/parts"),
        ("/a/1.xml/parts", "/a/{id}/parts"),
        ("/a/1.json/v2/b", "/a/{id}.json/v{n}/b"),
        ("/a/1.json/v/b", "/a/**"),
        ("/a/1%2Ejson/parts", "refused"),
        ("/a/1.json/parts/", "refused"),
        ("/a/s.key/parts", "/a/{x}.key/parts"),
        ("/a/.key/parts", "/a/{x}.key/parts"),
        ("/a/s.key/parts/", "/a/{x}.key/parts"),
        ("/a/s:t.key/parts", "/a/{x}.key/parts"),
        ("/a/x:y.json/parts", "/a/{id}.json/parts"),
    ],
)
def test_text_in_a_segment_before_the_last_one(path: str, row: str) -> None:
    rows = ("/a/{id}/parts", "/a/{id}/{x}", "/a/{id}.json/parts", "/a/{id}.json/v{n}/b", "/a/**")
    assert found(table(*rows, barred=("/a/{x}.key/parts",)), path) == row


SEGMENTS = ("a", "{id}", "{id}.b", "a{id}", "{id}...{x}", "a.{id}.b")
templates = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=2).map(
    lambda parts: "/" + "/".join(it.replace("id", f"i{n}").replace("x", f"y{n}") for n, it in enumerate(parts))
)
rows_of = st.lists(
    st.tuples(st.sampled_from(SEGMENTS[1:]).map(lambda part: f"/{part}") | templates, st.sampled_from(["*", "GET"])),
    max_size=4,
    unique=True,
)
SAMPLES = ["".join(it) for count in (1, 2, 3, 4) for it in product(("a", "z", ".b", "..."), repeat=count)]
SHORT = [it for it in SAMPLES if it.count("z") < 3 and it != "..." and len(it) < 9]


def policy_of(rows: list[tuple[str, str]]) -> Policy:
    kinds = {"*": Access.BARRED, "GET": Access.PUBLIC}
    found = {template: Route(method, template, kinds[method]) for template, method in rows}
    return built(*found.values(), Route("GET", "/other", Access.ANY))


@given(old=rows_of, new=rows_of, dropped=st.integers(-1, 3), tails=st.lists(st.sampled_from(SHORT), max_size=3))
def test_a_comparison_misses_no_opening(
    old: list[tuple[str, str]], new: list[tuple[str, str]], dropped: int, tails: list[str]
) -> None:
    if dropped >= 0:  # most changes are of one row
        new = [row for number, row in enumerate(old) if number != dropped]
    before, after = policy_of(old), policy_of(new)

    def is_open(policy: Policy, path: str) -> bool:
        target = parse(path)
        match = policy.router.match("GET", target) if target else None
        return match is not None and match.route is not None and match.route.access is Access.PUBLIC

    opened = next(
        (
            path
            for first in SHORT
            for path in (f"/{first}", *(f"/{first}/{tail}" for tail in ("a", *tails)))
            if is_open(after, path) and not is_open(before, path)
        ),
        None,
    )
    if opened is not None:
        assert compare(before, after).is_opening, opened


def test_a_comparison_sees_paths_that_two_such_rows_match() -> None:
    old = built(Route("GET", "/a/{id}.json", Access.ANY), Route("*", "/a/x{id}", Access.BARRED))
    new = built(Route("GET", "/a/{id}.json", Access.ANY))
    grave = [it for it in compare(old, new).changes if it.is_grave]
    assert [it.opens for it in grave] == [("any key",)]
    empty = built(Route("GET", "/a/{id}", Access.PUBLIC), Route("*", "/a/{id}.json", Access.BARRED))
    filled = built(Route("GET", "/a/{id}", Access.PUBLIC), Route("GET", "/a/{id}.json", Access.ANY))
    assert "/a/.json" in {path for it in compare(empty, filled).changes for path in it.requests}


def test_a_comparison_knows_such_rows() -> None:
    old = built(Route("GET", "/a/{id}", Access.ANY))
    new = built(Route("GET", "/a/{id}", Access.ANY), Route("GET", "/a/{id}.json", Access.PUBLIC))
    (change,) = compare(old, new).changes
    assert change.opens == ("no key",)
    assert list(change.requests) == ["/a/x.json"]
