"""YAML and JSON are read alike, within bounds, and the lines of values are found."""

import json
import time

import pytest
import yaml

from authz.adapters.envoy_config.document import UnreadableConfig, lines, parsed
from authz.adapters.envoy_config.forms import sources_of
from authz.demo.servers import shipped


def refused(text: str) -> str:
    with pytest.raises(UnreadableConfig) as caught:
        parsed(text)
    return str(caught.value)


def test_the_shipped_file_is_read_as_other_parsers_read_it() -> None:
    text = shipped("envoy.yaml").read_text()
    assert parsed(text) == yaml.safe_load(text)
    assert parsed(json.dumps(yaml.safe_load(text))) == yaml.safe_load(text)


def test_plain_words_are_values_and_quoted_ones_are_text() -> None:
    text = "[1, -2, 1.5, 1e3, true, null, ~, '1', \"true\", 0.2s, 1:30, 0120, a, 9223372036854775807999]"
    expected = [1, -2, 1.5, 1000.0, True, None, None, "1", "true", "0.2s", "1:30", 120, "a", "9223372036854775807999"]
    assert parsed(text) == expected


def test_a_flow_mapping_with_words_of_yaml_is_no_json() -> None:
    assert parsed("{a: [b, 'c']}") == {"a": ["b", "c"]}


def test_several_documents_are_a_list() -> None:
    assert parsed("a: 1\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("a: [", "line 2, column 1: neither JSON nor YAML"),
        ("a: 1\na: 2", "line 2, column 1: a appears twice"),
        ('{"a": 1, "a": 2}', "a appears twice"),
        ("a: *b", "no anchor b"),
        ("a: &a [*a]", "no anchor a"),
        ("[" * 1000 + "]" * 1000, "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ("- " * 3000 + "x", "nested too deeply"),
        ("? [a]\n: b", "a name must be text"),
        ("\x01", "neither JSON nor YAML"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, reason: str) -> None:
    assert reason in refused(text)


def test_aliases_of_aliases_are_bounded() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    started = time.monotonic()
    assert "more than 6,000,000 values" in refused("\n".join(rows))
    assert time.monotonic() - started < 1


def test_lines_are_those_of_the_keys_and_items() -> None:
    text = "a:\n  b:\n  - c: 1\n  - d: 2\n    e:\n      f: 3\ng: &x {h: 4}\ni: *x\n"
    wanted = [("a",), ("a", "b", 1), ("a", "b", 1, "e", "f"), ("g", "h"), ("i", "h"), ("a", "b", 0, "missing"), ()]
    assert list(lines(text, wanted).values()) != []
    found = lines(text, wanted)
    assert [found[path] for path in wanted] == [1, 4, 6, 7, 8, 3, 1]


def test_lines_of_json_are_found_as_well() -> None:
    text = json.dumps({"configs": [{"a": 1}, {"b": [{"c": 2}]}]}, indent=2)
    assert lines(text, [("configs", 1, "b", 0, "c")]) == {("configs", 1, "b", 0, "c"): 9}


def test_other_documents_are_no_configuration() -> None:
    for value, reason in (
        ({"apiVersion": "v1", "kind": "ConfigMap"}, "a Kubernetes manifest of kind ConfigMap"),
        ([{"apiVersion": "v1", "kind": "Service"}], "a Kubernetes manifest of kind Service"),
        ({"a": {"b": 1}}, "expected a bootstrap"),
        ([1, 2], "expected a bootstrap"),
        ("text", "expected a bootstrap"),
    ):
        with pytest.raises(UnreadableConfig, match=reason):
            sources_of(value)
