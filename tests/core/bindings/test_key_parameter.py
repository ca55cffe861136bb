"""A key in the query has one reading, or none: no reader finds another one, and nothing of it is passed on."""

from urllib.parse import parse_qsl, quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.bindings.key_parameter import KeyParameter
from authz.core.bindings.spellings import Ambiguous, fold

NAME = "api_key"
KEY = "shop_" + "a1B2" * 12
PARAMETER = KeyParameter(NAME)
names = st.sampled_from(
    [NAME, "API_KEY", "api-key", "apikey", "api%5Fkey", "api_key[]", "x[api_key]", "a", "b", "key", ""]
)
pairs = st.tuples(names, st.sampled_from(["", "=", f"={KEY}", f"=%61{KEY}", "=1;api_key=2", "=x%26api_key=y"])).map(
    "".join
)


@given(found=st.lists(pairs, max_size=5))
def test_what_is_accepted_has_one_reading(found: list[str]) -> None:
    query = "&".join(found)
    try:
        target, key = PARAMETER.split(f"/p?{query}")
    except Ambiguous:
        return
    rest = target.partition("?")[2]
    for text in (query, unquote(query), unquote(unquote(query))):
        read = [
            value for name, value in parse_qsl(text.replace(";", "&"), keep_blank_values=True) if fold(name) == "apikey"
        ]
        assert read == ([] if key is None else [key])
    assert not any(fold(unquote(pair.partition("=")[0])) == "apikey" for pair in rest.split("&"))


@given(others=st.lists(st.sampled_from(["a=1", "b", "c=%41", ""]), max_size=4), at=st.integers(0, 4))
def test_the_other_pairs_stay_as_they_are(others: list[str], at: int) -> None:
    query = "&".join([*others[:at], f"{NAME}={KEY}", *others[at:]])
    target, key = PARAMETER.split(f"/p?{query}")
    assert key == KEY
    assert target.partition("?")[2] == "&".join(others)


@pytest.mark.parametrize("target", ["/p", "/p?", "/p?a=1", "/api_key=x", "/p?a=api_key"])
def test_a_target_without_it_is_unchanged(target: str) -> None:
    assert PARAMETER.split(target) == (target, None)


@pytest.mark.parametrize(
    "query",
    [
        f"{NAME}={KEY}&{NAME}={KEY}",
        f"{NAME}={KEY}&{NAME}=",
        f"{NAME.upper()}={KEY}",
        f"{quote(NAME).replace('_', '%5f')}={KEY}",
        f"%61pi_key={KEY}",
        f"%2561pi_key={KEY}",
        f"api_key%00={KEY}",
        f"\uff41pi_key={KEY}",
        f"{NAME}=%73{KEY[1:]}",
        f"{NAME}=a+b",
        f"a=1;{NAME}={KEY}",
        f"a=1%26{NAME}={KEY}",
        f"{NAME}={KEY}&" + "&".join("a" * 64),
        f"{NAME}={KEY}&a=" + "a" * 10_000,
    ],
)
def test_another_spelling_or_copy_is_refused(query: str) -> None:
    with pytest.raises(Ambiguous):
        PARAMETER.split(f"/p?{query}")
