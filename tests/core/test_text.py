"""Text from clients: what is too long, or too costly to normalise, is known in linear time."""

import time
import unicodedata

import pytest

from authz.core.errors import Refused
from authz.core.owners import normalised_password
from authz.core.text import is_bounded, is_visible

GRAVE, CEDILLA = "\u0300", "\u0327"


@pytest.mark.parametrize(
    "text", ["", "plain", "caf\u00e9", "cafe\u0301", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "o" + GRAVE * 30]
)
def test_text_that_people_write_is_bounded(text: str) -> None:
    assert is_bounded(text, 100)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 101,
        "\u00e9" * 51,
        "o" + GRAVE * 31,
        GRAVE * 31,
        (GRAVE + CEDILLA) * 16,
        "\u0f73" * 31,
        "\uff9e" * 31,
        "\ud800" * 40,
    ],
)
def test_text_that_is_long_or_costly_is_not(text: str) -> None:
    assert not is_bounded(text, 100)


@pytest.mark.parametrize(
    "unit", ["x", GRAVE, CEDILLA + GRAVE, "\u0f73", "\uff9e", "\u0344", "o" + GRAVE * 30, "\u1eadx", "\ufdfa"]
)
def test_what_is_bounded_is_normalised_in_no_time(unit: str) -> None:
    text = unit * (4096 // len(unit.encode()))
    started_s = time.perf_counter()
    if is_bounded(text, 4096):
        unicodedata.normalize("NFC", text)
        unicodedata.normalize("NFD", text)
        unicodedata.normalize("NFKC", text)
    assert time.perf_counter() - started_s < 0.05


def test_a_password_may_be_long_in_its_decomposed_form_and_not_in_its_composed_one() -> None:
    longest = "\u1ead" * 256  # a letter with two marks
    assert normalised_password(unicodedata.normalize("NFD", longest)) == longest
    with pytest.raises(Refused, match="at most 256 characters"):
        normalised_password(longest + "x")


@pytest.mark.parametrize(
    "char", ["\u034f", "\u115f", "\u1160", "\u2800", "\u3164", "\uffa0", "\U00013441", "\U0001d159"]
)
def test_a_letter_or_symbol_that_no_font_shows_is_invisible(char: str) -> None:
    assert not is_visible(char)
    assert not is_visible(f"a{char}b")
