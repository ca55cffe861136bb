"""Passwords: a length, not among the first guesses, and one normal form."""

import pytest

from authz.core.errors import Refused
from authz.core.owners import Owner, check_new_password, normalised_password

BREACHED = frozenset({"iloveyou12"})


def check(password: str) -> None:
    check_new_password(password, "ada@example.com", chars_min=10, breached=BREACHED)


@pytest.mark.parametrize("password", ["0123456789", "a b c d e f", "пароль длинный", "x" * 255 + "y", "correct horse"])
def test_any_long_password_will_do(password: str) -> None:
    check(password)


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("012345678", "a password is 10 to 256 characters"),
        ("x" * 256 + "y", "a password is 10 to 256 characters"),
        ("Ada@Example.com", "this password is too easy to guess"),
        ("aaaaaaaaaaaa", "this password is too easy to guess"),
        ("ILoveYou12", "this password is known from a breach; choose another"),
    ],
)
def test_a_password_that_attackers_try_first_is_refused(password: str, message: str) -> None:
    with pytest.raises(Refused) as raised:
        check(password)
    assert str(raised.value) == message


def test_a_password_is_the_same_however_its_accents_were_typed() -> None:
    assert normalised_password("cafe\u0301 au lait") == normalised_password("caf\u00e9 au lait")


def test_a_hash_is_not_shown() -> None:
    assert "hunter2" not in repr(Owner("acct_1", "ada@example.com", "hunter2"))
