"""Codes in large type can be read: every character of one, each as its own shape."""

from string import ascii_uppercase, digits

from authz.client.large_type import ROWS, large


def test_every_character_of_a_code_has_a_shape_of_its_own() -> None:
    shapes = [large(char) for char in ascii_uppercase + digits + "-"]
    assert all(shape and len(shape) == ROWS and max(map(len, shape)) <= 5 for shape in shapes)
    assert len({tuple(shape or ()) for shape in shapes}) == 37


def test_a_code_is_as_wide_as_a_terminal_allows() -> None:
    rows = large("abcd-1234", "#")
    assert rows
    assert max(map(len, rows)) <= 62
    assert rows == large("ABCD-1234", "#")


def test_what_has_no_shape_is_left_to_others() -> None:
    assert large("") is None
    assert large("AB C") is None
