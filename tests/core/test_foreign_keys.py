"""Keys of another system: which are looked up, and that damaged keys of our own are not."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import FORMAT, KEYS, policy

from authz.core.check import Deny, Lookup, RequestAttributes
from authz.core.decision import plan
from authz.core.errors import DenyReason
from authz.core.keys import ForeignFormat, digest

STRIPE = ForeignFormat("sk_live_", 24, 30, "base62")
HEX = ForeignFormat("", 32, 32, "hex")
OWN = FORMAT.mint(bytes(range(32))).encode()


@pytest.mark.parametrize(
    "presented", [b"sk_live_" + b"a" * 24, b"sk_live_" + b"Z9" * 15, b"0123456789abcdefABCDEF0123456789"]
)
def test_a_key_of_a_foreign_format_is_looked_up_by_its_plain_digest(presented: bytes) -> None:
    rules = replace(policy(), keys=replace(KEYS, foreign=(STRIPE, HEX)))
    planned = plan(rules, RequestAttributes("1", "GET", "/v1/whoami", (presented,)))
    assert isinstance(planned, Lookup)
    assert planned.digest == digest(presented)
    refused = plan(policy(), RequestAttributes("1", "GET", "/v1/whoami", (presented,)))
    assert isinstance(refused, Deny)
    assert refused.reason is DenyReason.KEY_MALFORMED


@pytest.mark.parametrize(
    "presented",
    [
        b"",
        b"sk_live_",
        b"sk_live_" + b"a" * 23,
        b"sk_live_" + b"a" * 31,
        b"sk_live_" + b"a" * 23 + b"-",
        b"sk_live_" + b"a" * 23 + b"\xff",
        b"sk_test_" + b"a" * 24,
        b"g" * 32,
        OWN[:-1] + (b"0" if OWN[-1:] != b"0" else b"1"),
    ],
)
def test_any_other_key_is_malformed(presented: bytes) -> None:
    rules = replace(policy(), keys=replace(KEYS, foreign=(STRIPE, HEX)))
    planned = plan(rules, RequestAttributes("1", "GET", "/v1/whoami", (presented,)))
    assert isinstance(planned, Deny)
    assert planned.reason is DenyReason.KEY_MALFORMED


def test_a_damaged_key_of_our_own_is_not_looked_up_even_where_a_format_would_take_it() -> None:
    anything = ForeignFormat("", 20, 512, "base64url")
    rules = replace(KEYS, foreign=(anything,))
    assert not rules.is_foreign(OWN[:-1])
    assert rules.is_foreign(b"x" * 20)


def test_keys_with_a_prefix_are_masked_in_logs() -> None:
    rules = replace(KEYS, foreign=(STRIPE, HEX))
    masked = re.sub(rules.pattern, "*", f"a sk_live_{'a' * 24} b {OWN.decode()} c {'0' * 32}")
    assert masked == f"a * b * c {'0' * 32}"


@given(
    st.sampled_from(["hex", "base62", "base64url", "base64"]),
    st.integers(1, 60),
    st.integers(0, 40),
    st.binary(max_size=80),
)
def test_what_matches_is_what_the_pattern_matches(alphabet: str, least: int, more: int, presented: bytes) -> None:
    form = ForeignFormat("p_", least, least + more, alphabet)
    text = (b"p_" + presented).decode("latin-1")
    assert form.matches(b"p_" + presented) == bool(re.fullmatch(form.pattern, text))
    assert form.entropy_bits > 0
