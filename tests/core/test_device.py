"""User codes: unambiguous, read back however they are typed, and nothing else."""

import os

import pytest

from authz.core.device import GrantStatus as Status
from authz.core.device import Polled, StartedGrant, shown, typed, user_code


def test_a_code_reads_back_from_what_is_shown() -> None:
    codes = {user_code(os.urandom(16)) for _ in range(500)}
    assert len(codes) > 490
    for code in codes:
        assert typed(shown(code)) == code
        assert typed(f" {code[:4].lower()} {code[4:]} ") == code


@pytest.mark.parametrize(
    "text", ["", "BCDF", "BCDF-234", "BCDF-23456", "ABCD-2345", "BCDF-2345!x", "2345-BCDF", "ÄBCDF2345"]
)
def test_what_cannot_be_a_code_is_none(text: str) -> None:
    assert typed(text) == ""


def test_neither_the_device_code_nor_the_key_is_shown() -> None:
    assert "hunter2" not in repr(StartedGrant("hunter2", "BCDF2345"))
    assert "hunter2" not in repr(Polled(Status.APPROVED, "hunter2"))
