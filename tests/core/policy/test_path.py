"""One spelling is accepted; everything with a second reading is refused, and nothing makes the parser stumble."""

import re
from unicodedata import normalize
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.builders import KEY, request
from support.path_table import spellings

from authz.adapters.policy_file.loader import load_policy
from authz.core.bindings.accounts import named_accounts
from authz.core.check import Deny, Lookup
from authz.core.decision import Plan, plan
from authz.core.errors import DenyReason
from authz.core.policy.path import PATH_CHARS_MAX, SEGMENTS_MAX, Target, parse
from authz.demo.servers import shipped

POLICY = load_policy(shipped("policies/truetick.yaml"))


@pytest.mark.parametrize(
    ("target", "segments", "query"),
    [
        ("/", ("",), ""),
        ("/v1/servers", ("v1", "servers"), ""),
        ("/v1/servers/", ("v1", "servers", ""), ""),
        ("/v1/servers?a=/../%2F&b", ("v1", "servers"), "a=/../%2F&b"),
        ("/v1/servers/a:b", ("v1", "servers", "a:b"), ""),
        ("/pkg.Service/Method", ("pkg.Service", "Method"), ""),
        ("/a..b/...", ("a..b", "..."), ""),
    ],
)
def test_a_plain_target_is_split(target: str, segments: tuple[str, ...], query: str) -> None:
    assert parse(target) == Target(segments, segments, query)


def test_segments_are_kept_as_sent_and_decoded_once() -> None:
    assert parse("/v1/a%3Ab/%E2%9C%93") == Target(("v1", "a%3Ab", "%E2%9C%93"), ("v1", "a:b", "✓"))


@pytest.mark.parametrize(
    "target",
    [
        "", "*", "v1", "http://h/v1", "?x", "//", "//v1", "/v1//x", "/.", "/..", "/v1/../x", "/v1/./x", "/v1/x/..",
        "/v1/%2e%2e/x", "/v1/.%2E/x", "/v1/%2e", "/a;b", "/a/..;/b", "/a%3bb", "/a\\b", "/a%5Cb", "/a%2fb", "/a%2Fb",
        "/a%00", "/a%0d%0a", "/a%7f", "/a\x00", "/a\n", "/a b", "/é", "/a#b", "/a%23b", "/a%3Fb", "/a%", "/a%2",
        "/a%zz",
        "/a%u0041", "/a%252e", "/a%2541", "/%ff", "/%c0%ae", "/a?b#c", "/a?b c", "/a?\x01", "/a?é",
        "/" + "a" * PATH_CHARS_MAX, "/a" * (SEGMENTS_MAX + 1),
    ],
)  # fmt: skip
def test_a_target_with_another_reading_is_refused(target: str) -> None:
    assert parse(target) is None


def test_the_limits_themselves_are_accepted() -> None:
    assert parse("/" + "a" * (PATH_CHARS_MAX - 1)) is not None
    assert parse("/a" * SEGMENTS_MAX) is not None


@given(st.text() | st.text(alphabet="/.%;\\25eEfF3bBcCaA:?#", max_size=30).map("/".__add__))
@example("/%2%65")
def test_what_is_accepted_decodes_to_nothing_dangerous(target: str) -> None:
    parsed = parse(target)
    if parsed is None:
        return
    path = target.partition("?")[0]
    decoded = unquote_to_bytes(path).decode()
    assert re.search(r"[\\;%?#\x00-\x1f\x7f]", decoded) is None
    assert path.count("/") == decoded.count("/") == len(parsed.segments)
    assert not {".", ".."} & {*decoded.split("/")}
    assert "//" not in decoded
    assert "/" + "/".join(parsed.decoded) == decoded


def accounts(lookup: Lookup) -> list[str]:
    return [] if lookup.route is None or lookup.named is None else named_accounts(lookup.route, lookup.named)


def planned(method: str, target: str) -> Plan:
    return plan(POLICY, request(method, target, KEY))


@pytest.mark.parametrize(("method", "spelling", "canonical"), spellings())
def test_without_envoys_help_too_a_spelling_is_refused_or_decided_like_its_canonical_path(
    method: str, spelling: str, canonical: str
) -> None:
    seen, expected = planned(method, spelling), planned(method, canonical)
    if isinstance(seen, Deny) and seen.reason is DenyReason.PATH_NOT_CANONICAL:
        return
    assert type(seen) is type(expected)
    if isinstance(seen, Lookup) and isinstance(expected, Lookup):
        assert (seen.route, seen.methods, accounts(seen)) == (expected.route, expected.methods, accounts(expected))


def test_no_character_that_normalises_to_a_separator_is_accepted() -> None:
    """Computed from the Unicode tables: what NFKC or NFKD turns into a character that separates or hides something."""
    passed = []
    for code in range(0x80, 0x110000):
        character = chr(code)
        if 0xD800 <= code < 0xE000 or character == normalize("NFKD", character):
            continue
        forms = normalize("NFKC", character) + normalize("NFKD", character)
        if not set("/.\\:%;?#").isdisjoint(forms) and parse(f"/a{quote(character)}b") is not None:
            passed.append(f"{code:x}")
    assert passed == []


def test_normalised_segments_are_those_of_nfkc() -> None:
    target = parse("/%EF%BD%81%F0%9D%90%AC/a%CC%81/%E2%9C%93")
    assert target is not None
    assert target.compatible() == ("as", "a\u0301", "✓")
