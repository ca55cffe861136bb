"""Reads YAML so that it can be written again with its comments, anchors and quotes.

What is changed in between is `merge.py`.
"""

import re
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from authz.adapters.envoy_config.document import UnreadableConfig, parsed

_WIDTH = 4096  # no line is folded: a folded text would be another to some parsers
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@-]*|[0-9]+(\.[0-9]+)?s|[0-9]+(\.[0-9]+){3}")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def loaded(text: str) -> Any:  # noqa: ANN401 -- any YAML
    """Return the value of a text with all that is needed to write it again; raises `UnreadableConfig`."""
    parsed(text)  # the bounds
    try:
        return _yaml().load(text)
    except (YAMLError, RecursionError, ValueError) as error:
        raise UnreadableConfig(str(error).splitlines()[0]) from None


def dumped(value: Any) -> str:  # noqa: ANN401 -- any YAML
    """Return a value as YAML, which every parser reads as the same; raises `UnreadableConfig` if that fails."""
    _quote(value)
    out = StringIO()
    _yaml().dump(value, out)
    text = out.getvalue()
    if parsed(text) != value:
        raise UnreadableConfig("its YAML cannot be written again: convert it to JSON first")
    return text


def _quote(value: Any) -> None:  # noqa: ANN401 -- any YAML
    """Quote texts that are words of their own in some parsers, such as `:path` in a flow mapping."""
    waiting, seen = [value], set[int]()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict | list) or id(node) in seen:
            continue
        seen.add(id(node))
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            inner = node[key]
            if type(inner) is str and (not _PLAIN.fullmatch(inner) or inner.lower() in _WORDS):
                node[key] = DoubleQuotedScalarString(inner)
            waiting.append(inner)


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.allow_duplicate_keys = False
    yaml.indent(mapping=2, sequence=2, offset=0)
    return yaml
