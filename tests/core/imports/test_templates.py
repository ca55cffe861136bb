"""Paths of descriptions as templates: exact, renamed, widened, or refused with a reason."""

import pytest

from authz.core.imports.templates import InexpressibleError, converted
from authz.core.policy.template import Template


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/", "/"),
        ("/v1/users/{id}", "/v1/users/{id}"),
        ("/v1/servers/{id}:start", "/v1/servers/{id}:start"),
        ("/v1/servers:batch", "/v1/servers:batch"),
        ("/api.php", "/api.php"),
        ("/{a.b}/c", "/{a.b}/c"),
    ],
)
def test_what_a_template_can_express_stays_as_it_is(path: str, template: str) -> None:
    found = converted(path, "GET")
    assert (found.template, found.is_wide, found.doubts) == (template, False, ())


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/teams/{enterprise-team}", "/teams/{enterprise_team}"),
        ("/{a-b}/{a_b}", "/{a_b}/{a_b_2}"),
        ("/{1}", "/{part_1}"),
        ("/{ä ö}/x", "/{a_o}/x"),
    ],
)
def test_a_name_that_no_variable_may_have_is_changed_and_nothing_is_widened(path: str, template: str) -> None:
    found = converted(path, "GET")
    assert (found.template, found.is_wide) == (template, False)
    assert all(doubt.startswith("renamed") for doubt in found.doubts)
    assert found.doubts


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/compare/{base}...{head}", "/compare/{base_head}"),
        ("/{id}.json", "/{id_json}"),
        ("/users/", "/users/**"),
        ("/files/{path+}", "/files/{path=**}"),
        ("/a b/c", "/{a_b}/c"),
        ("/x/{a}:{b}", "/x/{a_b=**}"),
        ("/x/a:b:c", "/x/{a_b_c=**}"),
        ("/{a}:x/b", "/{a_x}/b"),
        ("/x?action=y", "/x"),
        ("/x#y", "/x"),
        ("/pkg.Service/Method", "/{service}/Method"),
        ("/a/*", "/a/{part}"),
        ("/a/**", "/a/{part}"),
        ("/{/a.b/}/c", "/{a_b}/c"),
        ("/{a/b}/c", "/{a_b}/c"),
        ("/a}/{b", "/{a}/{b}"),
    ],
)
def test_what_a_template_cannot_express_is_widened_and_flagged(path: str, template: str) -> None:
    found = converted(path, "GET")
    assert (found.template, found.is_wide) == (template, True)
    assert any(doubt.startswith("widened") for doubt in found.doubts)


@pytest.mark.parametrize("path", ["users", "", "/a//b", "/./a", "/a/..", "/x" * 65])
def test_a_path_whose_requests_are_always_refused_has_no_template(path: str) -> None:
    with pytest.raises(InexpressibleError):
        converted(path, "GET")


def test_a_post_that_reads_as_a_grpc_method_is_one() -> None:
    assert converted("/pkg.Service/Method", "POST").template == "/pkg.Service/Method"


def test_a_template_always_parses() -> None:
    odd = ["{", "}", "{}", "{{a}}", "a{b", "*", "{a=b}", "{a}{b}", ":", "a:", ":b", "{a}:", "{a}:1", "'", "%41", "ä"]
    for first in odd:
        for second in odd:
            try:
                found = converted(f"/{first}/{second}", "GET")
            except InexpressibleError:
                continue
            Template.parse(found.template)
