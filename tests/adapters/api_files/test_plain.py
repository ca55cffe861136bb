"""Files of any origin: bounded in size and depth, and refused where readers differ."""

import time
from pathlib import Path

import pytest

from authz.adapters.api_files import plain
from authz.core.errors import PolicyError


def test_json_and_yaml_give_the_same_values() -> None:
    text = b'{"a": [true, null, "x"], "b": {"200": {}}}'
    assert plain.parsed(text) == plain.parsed(b"a: [true, null, x]\nb:\n  200: {}\n")


def test_an_alias_shares_its_value() -> None:
    found = plain.parsed(b"a: &x {b: c}\nd: *x\ne:\n  <<: *x\n  f: g\n")
    assert found["d"] is found["a"]
    assert found["e"] == {"f": "g", "b": "c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": {"security": [], "security": [{}]}}', "security appears twice"),
        (b"a: 1\na: 2\n", "a appears twice"),
        (b"a: &x [*x]\n", "names nothing that precedes it"),
        (b"a: *x\n", "not YAML|names nothing"),
        (b"[" * 100_000, "nested too deeply|not YAML"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "nested too deeply"),
        (b"- " * 5_000 + b"x", "nested too deeply"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"a": "\\ud83d"}', "half of a surrogate pair"),
        (b"", "the file is empty"),
        (b"{", "not JSON"),
        (b"a: \x00", "not YAML"),
        (b"a: b\n---\nc: d\n", "more than one document"),
        (b"? [a]\n: b\n", "a name must be text"),
    ],
)
def test_a_faulty_file_is_refused_with_the_reason(text: bytes, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        plain.parsed(text)


def test_a_document_of_aliases_does_not_grow() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 100)]
    started = time.monotonic()
    plain.parsed("\n".join(lines).encode())
    assert time.monotonic() - started < 2


def test_merges_of_merges_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "NODES_MAX", 10_000)
    lines = ["a: &a {" + ", ".join(f"k{n}: x" for n in range(500)) + "}"]
    lines += [f"b{n}:\n  <<: *a" for n in range(100)]
    with pytest.raises(PolicyError, match="too large"):
        plain.parsed("\n".join(lines).encode())


def test_a_large_file_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plain, "FILE_BYTES_MAX", 10)
    (tmp_path / "a.json").write_text('{"a": "bcdefg"}')
    with pytest.raises(PolicyError, match="has more than"):
        plain.read_plain(tmp_path / "a.json")
