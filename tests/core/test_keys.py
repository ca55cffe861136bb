"""The key format: minting, and the check of prefix, alphabet, length and checksum without I/O."""

import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import FORMAT, KEY

from authz.core.keys import ALPHABET, KeyFormat, digest


@given(st.binary(min_size=32, max_size=32))
def test_a_minted_key_is_well_formed(entropy: bytes) -> None:
    key = FORMAT.mint(entropy)
    assert re.fullmatch(r"ttk_[0-9A-Za-z]{49}", key)
    assert re.fullmatch(FORMAT.pattern, key)
    assert FORMAT.is_well_formed(key.encode())


@given(st.binary(min_size=32, max_size=32), st.integers(0, 52), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed(entropy: bytes, index: int, character: str) -> None:
    key = FORMAT.mint(entropy)
    changed = key[:index] + character + key[index + 1 :]
    assert FORMAT.is_well_formed(changed.encode()) is (changed == key)


@given(st.binary(max_size=80))
def test_noise_is_not_well_formed(noise: bytes) -> None:
    assert not FORMAT.is_well_formed(noise)


def test_different_entropy_makes_different_keys() -> None:
    keys = {FORMAT.mint(number.to_bytes(32)) for number in range(500)}
    assert len(keys) == 500
    assert FORMAT.mint(b"\xff" * 32) != FORMAT.mint(b"\x00" * 32)


@pytest.mark.parametrize(
    "presented",
    [
        b"",
        KEY.encode() + b"0",
        KEY.encode()[:-1],
        b" " + KEY.encode()[1:],
        KEY.encode() + b"," + KEY.encode(),
        KEY.lower().encode(),
        b"ttk_" + b"\xc3\xa9" * 24 + b"0",
        KEY.replace("ttk_", "ttl_").encode(),
        b"ttk_" + b"-" * 49,
    ],
)
def test_near_misses_are_refused(presented: bytes) -> None:
    assert not FORMAT.is_well_formed(presented)


def test_a_key_of_another_format_is_refused() -> None:
    assert not KeyFormat("abc_").is_well_formed(KEY.encode())


def test_too_little_entropy_makes_no_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        FORMAT.mint(b"short")


def test_a_hint_shows_four_characters() -> None:
    assert FORMAT.hint(KEY) == f"ttk_…{KEY[-4:]}"


def test_the_digest_is_sha_256() -> None:
    assert digest(KEY.encode()) == sha256(KEY.encode()).digest()
