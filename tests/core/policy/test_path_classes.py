"""The path classes are complete: a table decides on every path as on the sample of its class."""

from hypothesis import example, given
from hypothesis import strategies as st

from authz.core.policy.path import Target, parse
from authz.core.policy.path_classes import path_classes
from authz.core.policy.route import Access, Route
from authz.core.policy.router import Router
from authz.core.policy.template import Template

PARTS = st.sampled_from(["a", "b", "*", "x"])
VERBS = st.sampled_from(["", "", ":go", ":stop"])
PACKAGES = st.sampled_from(["p.**", "p.q.**", "p.S/M", "p.q.S/M"])
REST = st.sampled_from(["", "", "/**"])


@st.composite
def routes(draw: st.DrawFn) -> Route:
    if draw(st.integers(0, 5)) == 0:
        template = f"/{draw(PACKAGES)}"
    else:
        parts = draw(st.lists(PARTS, max_size=3))
        rest = draw(REST) if parts else "/**"
        template = "".join(f"/{part}" for part in parts) + rest + draw(VERBS)
    return Route("GET", template, draw(st.sampled_from([Access.ANY, Access.BARRED])))


@st.composite
def targets(draw: st.DrawFn) -> Target:
    segments = draw(st.lists(st.sampled_from(["a", "b", "c", "x", "p.S", "p.q.S", "p", "M"]), max_size=4))
    last = draw(st.sampled_from(["", *segments[-1:], "a", "c"])) + draw(
        st.sampled_from(["", ":go", ":stop", ":no", ":"])
    )
    target = parse("/" + "/".join([*segments[:-1], last]))
    assert target
    return target


def found(router: Router, target: Target) -> str:
    match = router.match("GET", target)
    return "two readings" if match is None else repr(match.route)


@given(st.lists(routes(), max_size=5), st.lists(routes(), max_size=5), targets())
@example([Route("GET", "/a", Access.ANY)], [Route("GET", "/*", Access.ANY)], Target(("a:no",), ("a:no",)))
@example([Route("GET", "/a/**:go", Access.ANY)], [], Target(("a", ":go"), ("a", ":go")))
@example([Route("GET", "/p.**", Access.BARRED)], [Route("GET", "/p.q.**", Access.ANY)], Target(("p.q.S",), ("p.q.S",)))
def test_every_path_is_of_a_kind_that_has_an_example(old: list[Route], new: list[Route], target: Target) -> None:
    tables = Router(old), Router(new)
    kinds = path_classes(Template.parse(route.template) for route in old + new)
    samples = [parse(kind.sample) for kind in kinds]
    seen = {tuple(found(table, sample) for table in tables) for sample in samples if sample}
    assert None not in samples
    assert tuple(found(table, target) for table in tables) in seen


def test_kinds_are_shown_as_people_write_templates() -> None:
    shown = {kind.shown for kind in path_classes([Template.parse("/v1/servers/{id}:start"), Template.parse("/p.**")])}
    assert {"/v1/servers/*:start", "/v1/servers/*:*", "/v1/servers/*/", "/p.*", "/*"} <= shown


def test_there_are_not_many_more_kinds_than_templates() -> None:
    templates = [Template.parse(f"/v1/{name}{number}/{{id}}/x") for name in "abcdefgh" for number in range(100)]
    assert len(list(path_classes(templates))) < 20 * len(templates)
