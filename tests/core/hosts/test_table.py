"""The rows of hosts against a simple reference: no spelling of a host opens what is barred for it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import KEY, policy

from authz.core.check import Deny, RequestAttributes
from authz.core.decision import plan
from authz.core.errors import DenyReason
from authz.core.hosts.names import host_name
from authz.core.hosts.table import HostRouter, host_samples, router_of
from authz.core.policy.diff import compare
from authz.core.policy.path import parse
from authz.core.policy.policy import Policy
from authz.core.policy.route import Access, Route
from authz.core.policy.router import Router
from authz.core.policy.rules import Declarations, Row, faults
from authz.core.policy.simulation import Caller, decide, need

PATTERNS = ("a.example", "b.example", "*.example", "*.a.example", "x.a.example", "*", "10.0.0.1")
HOSTS = ("a.example", "b.example", "c.example", "x.a.example", "y.x.a.example", "example", "10.0.0.1", "other.test")
SPELLINGS = ("{}", "{}.", "{}:443", "{}:", "{}.:8443", "{upper}", "{upper}.:1")
NOT_HOSTS = (
    "",
    ".",
    "{}, b.example",
    "{0},{0}",
    "u@{}",
    "{}..",
    "{}%00",
    " {}",
    "{}/",
    "http://{}",
    "{}:x",
    "\uff41{}",
)

hosts = st.lists(st.sampled_from(PATTERNS), max_size=3, unique=True).map(tuple)
rows = st.lists(
    st.builds(
        lambda path, access, at: Route("*" if access is Access.BARRED else "GET", path, access, hosts=at),
        st.sampled_from(["/p", "/{x}", "/**", "/p/q"]),
        st.sampled_from([Access.PUBLIC, Access.PUBLIC, Access.BARRED]),
        hosts,
    ),
    min_size=1,
    max_size=6,
)


def is_at(route: Route, name: str, named: set[str]) -> bool:
    """Tell whether a host has a row, as docs/policy.md defines it."""

    def fits(pattern: str) -> bool:
        return pattern in {name, "*"} or (pattern.startswith("*.") and name.endswith(pattern[1:]))

    return any(map(fits, named)) and (not route.hosts or any(map(fits, route.hosts)))


@given(rows=rows)
def test_a_host_has_its_rows_and_no_others_in_every_spelling(rows: list[Route]) -> None:
    router, named = router_of(rows), {host for row in rows for host in row.hosts}
    target = parse("/p")
    assert target is not None
    if not named:
        assert type(router) is Router
        return
    for name in HOSTS:
        expected = Router([row for row in rows if is_at(row, name, named)]).match("GET", target)
        for spelling in SPELLINGS:
            found = router.match_at(spelling.format(name, upper=name.upper()), "GET", target)
            assert found is not None
            assert found.route is (expected and expected.route)
            bars = [row for row in rows if row.access is Access.BARRED and is_at(row, name, named)]
            if any(row.template in {"/p", "/{x}", "/**"} for row in bars):
                assert found.route is not None
                assert found.route.access is Access.BARRED
        for spelling in NOT_HOSTS:
            refused = router.match_at(spelling.format(name), "GET", target)
            assert refused is not None
            assert refused.route is None


@given(old=rows, new=rows)
def test_a_diff_misses_no_host(old: list[Route], new: list[Route]) -> None:
    before, after = policy(*old), policy(*new)
    before, after = replace(before, router=router_of(old)), replace(after, router=router_of(new))
    found = compare(before, after)
    opened = any(
        need(before, "GET", path, host=host) != "public" and need(after, "GET", path, host=host) == "public"
        for path in ("/p", "/z", "/p/q", "/")
        for host in (*HOSTS, "")
    )
    if opened:
        assert found.is_opening


OPEN = Route("GET", "/v1/{x}", Access.ANY, hosts=("api.example",))
BARRED = Route("*", "/v1/{x}", Access.BARRED, hosts=("admin.example",))
WILD = Route("GET", "/v1/{x}", Access.PUBLIC, hosts=("*.example.com",))


def hosted(*routes: Route) -> Policy:
    return replace(policy(*routes), router=router_of(routes))


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("api.example", None),
        ("API.example.:443", None),
        ("admin.example", DenyReason.BARRED),
        ("ADMIN.EXAMPLE.", DenyReason.BARRED),
        ("admin.example:8080", DenyReason.BARRED),
        ("", DenyReason.ROUTE_UNKNOWN),
        ("admin.example,api.example", DenyReason.ROUTE_UNKNOWN),
        ("api.example,admin.example", DenyReason.ROUTE_UNKNOWN),
        ("other.example", DenyReason.ROUTE_UNKNOWN),
        ("x.api.example", DenyReason.ROUTE_UNKNOWN),
    ],
)
def test_the_host_decides_which_rows_there_are(host: str, reason: DenyReason | None) -> None:
    decision = decide(hosted(OPEN, BARRED), "GET", "/v1/a", Caller(), host=host)
    assert (decision.reason if isinstance(decision, Deny) else None) is reason


def test_a_request_without_a_key_learns_nothing_of_hosts() -> None:
    for host in ("api.example", "admin.example", "other.example", ""):
        planned = plan(hosted(OPEN, BARRED), RequestAttributes("r", "GET", "/v1/a", host=host))
        assert isinstance(planned, Deny)
        assert planned.reason is DenyReason.KEY_MISSING


def test_a_path_with_two_readings_is_refused_at_every_host() -> None:
    attributes = RequestAttributes("r", "GET", "/v1/a%2fb", (KEY.encode(),), host="api.example")
    planned = plan(hosted(OPEN, BARRED), attributes)
    assert isinstance(planned, Deny)
    assert planned.reason is DenyReason.PATH_NOT_CANONICAL


def declared(*routes: Route) -> list[str]:
    built = policy(*routes)
    given_rows = [Row(("routes", number), route) for number, route in enumerate(routes)]
    found = faults(given_rows, Declarations(built.scopes, built.streams, built.methods, built.limit))
    return [problem.message for problem in found]


def test_the_same_row_of_two_hosts_is_no_fault_and_of_overlapping_ones_is() -> None:
    at_a, at_b = replace(OPEN, hosts=("a.example",)), replace(OPEN, hosts=("b.example",))
    assert declared(at_a, at_b) == []
    assert declared(at_a, replace(OPEN, hosts=("*.example",))) == ["the same requests as GET /v1/{x}"]
    assert declared(at_a, replace(OPEN, hosts=("*",))) == ["the same requests as GET /v1/{x}"]
    assert declared(at_a, replace(OPEN, hosts=())) == ["the same requests as GET /v1/{x}"]


def test_a_row_that_is_barred_at_each_of_its_hosts_is_a_fault() -> None:
    both = replace(OPEN, hosts=("api.example", "admin.example"))
    assert declared(both, BARRED) == []
    assert declared(replace(OPEN, hosts=("admin.example",)), BARRED) == [
        "never reached: * /v1/{x} is barred".replace("* ", "")
    ]
    assert declared(OPEN, replace(BARRED, hosts=())) == ["never reached: /v1/{x} is barred"]


def test_too_many_hosts_or_entries_are_a_fault() -> None:
    many = [replace(OPEN, template=f"/v{number}", hosts=(f"h{number}.example",)) for number in range(65)]
    assert "more than 64 different hosts" in declared(*many)[0]
    wide = [replace(OPEN, template=f"/v{number}", hosts=()) for number in range(1_000)]
    narrow = [replace(OPEN, template="/x", hosts=(f"h{number}.example",)) for number in range(60)]
    assert "rows times hosts" in declared(*wide, *narrow)[0]


def test_hosts_with_the_same_rows_share_one_router() -> None:
    router = router_of([replace(OPEN, hosts=("a.example", "b.example"))])
    assert isinstance(router, HostRouter)
    assert router.for_host("a.example") is router.for_host("B.example:1")
    assert [shown for _, shown in host_samples(router)] == ["a.example", "b.example", "another host", "no host"]
    assert len(list(router.dismantle())) > 1
    assert router.match("GET", parse("/v1/a")) is None  # type: ignore[arg-type]  # a sound path


def test_a_wildcard_is_of_every_host_below_and_not_of_the_name_itself() -> None:
    router = router_of([WILD])
    for host in ("a.example.com", "a.b.example.com", "xn--bcher-kva.example.com"):
        assert router.for_host(host).has_rows
    for host in (
        "example.com",
        "aexample.com",
        "example.com.evil.test",
        ".example.com",
        "*.example.com",
        "a.example.co",
    ):
        assert not router.for_host(host).has_rows


def test_what_the_host_is_decided_by_is_reported_as_an_opening() -> None:
    old = hosted(OPEN)
    assert compare(old, replace(old, host_extension="site")).is_opening
    assert host_name("site") == "site"
