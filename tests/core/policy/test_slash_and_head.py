"""Trailing slashes and HEAD beside text in segments, hosts and bars: the switches change nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.hosts.table import router_of
from authz.core.policy.path import parse
from authz.core.policy.route import Access, Route
from authz.core.policy.router import Router

ROWS = ("/a/{id}.json", "/a/{id}.json/parts", "/c/{base}...{head}", "/d/{id}", "/e/**", "/d/{id}:go", "/")
BARRED = ("/a/{id}.key", "/s{x}.y/z", "/d/x", "/e/f")
PATHS = (
    "/a/1.json",
    "/a/1.json/parts",
    "/c/m...t",
    "/d/1",
    "/e/g",
    "/d/1:go",
    "/a/1.key",
    "/a/.key",
    "/s1.y/z",
    "/s.y/z",
    "/d/x",
    "/e/f",
    "/a/.json",
    "/nowhere",
)


def table(*, head_follows_get: bool = True, ignores_slash: bool = False, hosts: tuple[str, ...] = ()) -> Router:
    rows = [Route("GET", row, Access.PUBLIC, hosts=hosts) for row in ROWS if not row.endswith(":go")]
    rows += [Route("POST", "/d/{id}:go", Access.PUBLIC, hosts=hosts), Route("HEAD", "/d/{id}", Access.ANY, hosts=hosts)]
    rows += [Route("*", row, Access.BARRED) for row in BARRED]
    return router_of(rows, head_follows_get=head_follows_get, ignores_slash=ignores_slash)


def found(router: Router, method: str, path: str) -> tuple[str, tuple[str, ...]]:
    target = parse(path)
    assert target is not None
    match = router.for_host("A.example.:1").match(method, target)
    if match is None:
        return "refused", ()
    return (f"{match.route.method} {match.route.template}" if match.route else "none"), match.methods


@pytest.mark.parametrize("hosts", [(), ("a.example",)])
@pytest.mark.parametrize("path", PATHS)
def test_a_slash_lifts_no_bar_and_finds_no_other_row(path: str, hosts: tuple[str, ...]) -> None:
    for method in ("GET", "HEAD", "POST"):
        bare = found(table(hosts=hosts), method, path)
        distinct = found(table(hosts=hosts), method, f"{path}/")
        same = found(table(hosts=hosts, ignores_slash=True), method, f"{path}/")
        assert found(table(hosts=hosts, ignores_slash=True), method, path) == bare
        if bare[0].startswith("* "):
            assert {distinct, same} == {bare}
        elif ":" not in path:
            assert same == bare
        assert distinct in {bare, ("none", ()), ("refused", ())}


@given(path=st.sampled_from(PATHS), slash=st.sampled_from(["", "/"]), same=st.booleans())
def test_head_has_the_row_of_get_only_where_it_follows(path: str, slash: str, *, same: bool) -> None:
    on = table(head_follows_get=True, ignores_slash=same)
    off = table(head_follows_get=False, ignores_slash=same)
    get, head_on, head_off = (
        found(on, "GET", path + slash),
        found(on, "HEAD", path + slash),
        found(off, "HEAD", path + slash),
    )
    assert found(off, "GET", path + slash)[0] == get[0]
    if get[0].startswith("GET ") and not path.startswith("/d/"):
        assert head_on == get
        assert head_off == ("none", ("GET",))
    elif get[0].startswith("* "):
        assert head_on == head_off == get
    if path == "/d/1" and get[0] != "none" and get[0] != "refused":
        assert head_on[0] == head_off[0] == "HEAD /d/{id}"
