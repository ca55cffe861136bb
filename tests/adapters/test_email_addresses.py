"""E-mail addresses: one spelling for each, and none that people cannot read."""

import pytest

from authz.adapters.email_addresses import normalised_email
from authz.core.errors import Refused


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (" Ada@EXAMPLE.com ", "ada@example.com"),
        ("u\u0308ber@b\u00fccher.example", "\u00fcber@b\u00fccher.example"),
        ("ada@xn--bcher-kva.example", "ada@b\u00fccher.example"),
        ("ada@\uff25\uff58ample.com", "ada@example.com"),
    ],
)
def test_one_address_has_one_spelling(typed: str, expected: str) -> None:
    assert normalised_email(typed) == expected


@pytest.mark.parametrize("char", ["\u3164", "\u2800", "\u115f", "\U0001d159", "\u200b", "\u202e", "\u00ad"])
def test_an_address_with_a_character_that_nobody_sees_is_invalid(char: str) -> None:
    for address in (f"a{char}da@example.com", f"{char}@example.com"):
        with pytest.raises(Refused, match="invalid email"):
            normalised_email(address)
