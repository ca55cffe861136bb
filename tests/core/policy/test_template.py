"""Templates are understood as google.api.http has them, or refused with a reason."""

import re

import pytest

from authz.core.policy.template import Template, TemplateError, is_grpc


@pytest.mark.parametrize(
    ("text", "parts", "names", "verb"),
    [
        ("/v1/servers", ("v1", "servers"), {}, ""),
        ("/v1/{id}:set-plan", ("v1", "*"), {"id": (1, 1)}, "set-plan"),
        ("/v1/mods:remove", ("v1", "mods"), {}, "remove"),
        ("/v1/{id}:batchGet", ("v1", "*"), {"id": (1, 1)}, "batchGet"),
        ("/v1/*/{x=**}", ("v1", "*", "**"), {"x": (2, 1)}, ""),
        ("/{name=a/*/b/*}/c", ("a", "*", "b", "*", "c"), {"name": (0, 4)}, ""),
        ("/p.q.Service/Method", ("p.q.Service", "Method"), {}, ""),
        ("/p.q.**", ("p.q.**",), {}, ""),
    ],
)
def test_a_template_is_parsed(text: str, parts: tuple[str, ...], names: dict[str, tuple[int, int]], verb: str) -> None:
    assert Template.parse(text) == Template(parts, names, verb)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v1", "a template starts with a slash"),
        ("/v1/", "empty segment"),
        ("/v1//x", "empty segment"),
        ("/v1/**/x", "** must come last"),
        ("/{a}/{a}", "variable 'a' appears twice"),
        ("/v1/{a", "bad segment '{a'"),
        ("/v1/{}", "bad segment '{}'"),
        ("/v1/{a=}", "bad segment '{a=}'"),
        ("/v1/a b", "bad segment 'a b'"),
        ("/v1/a;b", "bad segment 'a;b'"),
        ("/v1/..", "bad segment '..'"),
        ("/v1/{a=./b}", "bad segment '.'"),
        ("/v1/%61", "bad segment '%61'"),
        ("/v1/{a}:1st", "bad custom verb '1st'"),
        ("/v1/{a}:", "bad custom verb ''"),
    ],
)
def test_a_template_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as raised:
        Template.parse(text)
    assert str(raised.value) == message


def test_the_root_is_a_template_of_one_empty_segment() -> None:
    assert Template.parse("/").parts == ("",)
    for text in ("//", "/:go"):
        with pytest.raises(TemplateError):
            Template.parse(text)


def test_grpc_methods_and_packages_are_known_by_their_dots() -> None:
    assert is_grpc("/p.q.Service/Method")
    assert is_grpc("/p.q.**")
    assert not is_grpc("/v1/servers")
    assert not is_grpc("/p.q.Service/{x}")


@pytest.mark.parametrize(
    ("text", "matching", "others"),
    [
        ("/", ["/"], ["", "/a"]),
        ("/v1/servers", ["/v1/servers"], ["/v1/servers/", "/v1/serversx", "/xv1/servers"]),
        ("/v1/a.b", ["/v1/a.b"], ["/v1/axb"]),
        ("/v1/servers/{id}", ["/v1/servers/a", "/v1/servers/a.b"], ["/v1/servers", "/v1/servers/", "/v1/servers/a/b"]),
        ("/v1/servers/{id}:start", ["/v1/servers/a:start"], ["/v1/servers/a", "/v1/servers/:start"]),
        ("/v1/files/**", ["/v1/files", "/v1/files/", "/v1/files/a/b"], ["/v1/filesx", "/v1"]),
        ("/v1/reports/{id}.json", ["/v1/reports/a.json"], ["/v1/reports/.json", "/v1/reports/axjson", "/v1/a/b.json"]),
        ("/v1/compare/{base}...{head}", ["/v1/compare/a...b"], ["/v1/compare/a..b", "/v1/compare/...b"]),
    ],
)
def test_the_regular_expression_matches_what_the_template_does(
    text: str, matching: list[str], others: list[str]
) -> None:
    regex = Template.parse(text).regex
    assert [path for path in matching + others if re.fullmatch(regex, path)] == matching
