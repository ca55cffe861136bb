"""The index of overlapping templates: the same result as comparing every pair, and bounded work."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.errors import PolicyError
from authz.core.imports import overlaps
from authz.core.imports.overlaps import Overlaps

PARTS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4)
SHAPES = st.tuples(PARTS, st.booleans()).map(lambda it: ((*it[0], "**") if it[1] else tuple(it[0]), ""))


def paths(parts: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Every path of a template in a small world."""
    fixed = [("a", "b", "x") if part == "*" else (part,) for part in parts if part != "**"]
    found = set(itertools.product(*fixed))
    if parts[-1] == "**":
        longer = [("a", "b", "x")] * (5 - len(fixed))
        for count in range(1, len(longer) + 1):
            found |= {
                (*path, *rest) for path in set(itertools.product(*fixed)) for rest in itertools.product(*longer[:count])
            }
    return found


@given(st.lists(SHAPES, min_size=1, max_size=6), SHAPES)
def test_rows_overlap_where_they_share_a_path(
    rows: list[tuple[tuple[str, ...], str]], sought: tuple[tuple[str, ...], str]
) -> None:
    index = Overlaps(("GET", shape, str(number)) for number, shape in enumerate(rows))
    expected = {str(number) for number, shape in enumerate(rows) if paths(shape[0]) & paths(sought[0])}
    assert set(index.of("GET", sought)) == expected
    assert set(index.of("*", sought)) == expected
    assert set(index.of("PUT", sought)) == set()


def test_rows_with_different_verbs_do_not_overlap_except_with_a_rest() -> None:
    index = Overlaps([("GET", (("a", "*"), "start"), "1"), ("GET", (("a", "*"), ""), "2"), ("GET", (("**",), ""), "3")])
    assert set(index.of("GET", (("a", "b"), ""))) == {"2", "3"}
    assert set(index.of("GET", (("a", "b"), "start"))) == {"1", "3"}


def test_the_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlaps, "_STEPS_MAX", 5_000)
    index = Overlaps(("GET", ((f"l{number}", "m", f"q{number}"), ""), "x") for number in range(1_000))
    assert list(index.of("GET", (("*", "*", "p"), ""))) == []
    with pytest.raises(PolicyError, match="too many rows"):
        list(itertools.chain.from_iterable(index.of("GET", (("*", "*", "p"), "")) for _ in range(5)))
